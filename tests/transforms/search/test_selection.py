"""A selection of rows: which ids are among them, and some drawn at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.search import selection
from transforms.search.selection import Selection


def selected(ids: NDArray[np.int64] | list[int], size: int) -> Selection:
    """Has bits for ids below `size`, in whole bytes."""
    bits = np.zeros(-(-size // 8) * 8, np.bool_)
    bits[ids] = True
    return Selection(np.packbits(bits, bitorder="little"), int(bits.sum()))


@pytest.fixture(params=["listed", "guessed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Draws from all ids, and of few rows as from millions: by guessing."""
    if request.param == "guessed":
        monkeypatch.setattr(selection, "_ALL_LISTED", 0)
    return str(request.param)


@given(ids=st.sets(st.integers(0, 99)), asked=st.lists(st.integers(-300, 300)))
def test_it_has_the_ids_that_are_in_it_and_no_other(ids: set[int], asked: list[int]) -> None:
    has = selected(sorted(ids), 100).has(np.array(asked, np.int64))
    assert has.tolist() == [one in ids for one in asked]


def test_of_no_bits_it_has_nothing() -> None:
    nothing = Selection(np.empty(0, np.uint8), 0)
    assert nothing.has(np.array([0, 5])).tolist() == [False, False]
    assert nothing.draw(3, 0).tolist() == []


@pytest.mark.usefixtures("way")
@given(share=st.floats(0.05, 1), count=st.integers(0, 40), seed=st.integers(0, 9))
def test_drawn_ids_are_distinct_ascending_and_the_same_again(share: float, count: int, seed: int) -> None:
    ids = np.flatnonzero(np.random.default_rng(3).random(500) < share)
    some = selected(ids, 500)
    drawn = some.draw(count, seed)
    assert len(drawn) == min(count, len(ids))
    assert np.all(np.diff(drawn) > 0) and np.isin(drawn, ids).all()
    assert drawn.tolist() == some.draw(count, seed).tolist()


@pytest.mark.usefixtures("way")
def test_another_seed_draws_others() -> None:
    some = selected(list(range(0, 4000, 2)), 4000)
    assert some.draw(50, 0).tolist() != some.draw(50, 1).tolist()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("count", [7, 8, 1000])
def test_all_are_drawn_where_there_are_no_more(count: int) -> None:
    ids = [3, 5, 64, 65, 66, 100, 127]
    assert selected(ids, 128).draw(count, 4).tolist() == ids


@pytest.mark.usefixtures("way")
def test_each_id_is_drawn_as_often_as_another() -> None:
    ids = np.concatenate([np.arange(40), np.arange(960, 1000)])  # at both ends, and few in all
    some = selected(ids, 1000)
    times = np.zeros(1000)
    for seed in range(600):
        times[some.draw(20, seed)] += 1
    # 150 of 600, with a standard deviation of 10.6.
    assert times[ids].min() > 150 - 5 * 10.6 and times[ids].max() < 150 + 5 * 10.6
    assert times.sum() == 600 * 20


def test_of_many_rows_no_list_of_all_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_ALL_LISTED", 100)
    monkeypatch.setattr(Selection, "ids", lambda _: pytest.fail("all ids were listed"))
    some = selected(list(range(0, 1000, 3)), 1000)
    assert len(some.draw(30, 0)) == 30
