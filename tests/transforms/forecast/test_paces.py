"""What earlier runs took is remembered, and weighs as much as it should."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import cheap
from transforms.forecast import paces
from transforms.forecast.paces import OVERHEAD, WINDOW, Pace, Paces
from transforms.forecast.rates import DEFAULT

runs = st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), max_size=20)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(paces, "file", lambda: tmp_path / "cache" / "paces.json")
    yield tmp_path / "cache"


@cheap
@given(runs, st.floats(0, 1e6))
def test_whatever_was_seen_an_expectation_stays_within_a_factor(
    seen: list[tuple[float, float]], expected: float
) -> None:
    pace = Pace()
    for spent, forecast in seen:
        pace = pace.with_run(spent, forecast)
    here = pace.of(expected)
    assert 0 <= here <= max(10 * expected, expected + 5)
    assert pace.expected <= WINDOW * 1.000001


def test_the_latest_runs_count_by_their_length() -> None:
    pace = Pace().with_run(60.0, 30.0)
    assert pace.of(10.0) == pytest.approx(20.0, rel=0.02)
    assert pace.with_run(0.5, 1.0).of(10.0) == pytest.approx(20.0, rel=0.05)  # a short one says little
    assert pace.with_run(1e4, 1e4).of(10.0) == pytest.approx(10.0, rel=0.02)  # a long one says all


def test_what_a_stage_takes_beside_its_work_is_no_factor_of_its_work() -> None:
    pace = Pace().with_run(0.9, 0.1)
    assert pace.of(0.1) == pytest.approx(0.9)
    assert pace.of(100.0) == 100.0
    assert pace.with_run(1000.0, OVERHEAD).of(0.1) < 5


def test_it_is_kept_for_the_rates_that_forecasts_rested_on(cache: Path) -> None:
    assert paces.load(DEFAULT).stages == {}
    paces.save(paces.load(DEFAULT).with_run({"add": 20.0, "plan": 1.0}, {"add": 10.0}))
    assert paces.load(DEFAULT).stages == {"add": Pace(20.0, 10.0)}
    assert paces.load(replace(DEFAULT, measured="2027-01-01")).stages == {}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"beside": 3}', b"\xff", b'{"format_version": 99}'])
def test_what_cannot_be_read_is_nothing(cache: Path, damage: bytes) -> None:
    cache.mkdir()
    paces.file().write_bytes(damage)
    assert paces.load(DEFAULT).stages == {}


def test_a_cache_that_cannot_be_written_stops_nothing(cache: Path) -> None:
    cache.write_bytes(b"a file")
    paces.save(Paces("these"))
    assert cache.read_bytes() == b"a file"
