"""Evaluations as a report takes them: of the right generation, and nothing else is believed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roots import Row, make_root, unit
from transforms.errors import PixdexError, UsageError
from transforms.generations.published import open_generation
from transforms.report.evaluated import Evaluation, decoded, evaluation_in

POINT = {
    "modality": "image", "nprobe": 1, "shortlist": 0, "default": True, "queries": 5, "codes": 10.0, "recall": 0.5,
    "ci95": [0.4, 0.6], "robust90": 0.2, "p5": None, "p50_ms": 1.0, "p99_ms": 2.0, "batch_ms": 0.1, "margin": None,
}  # fmt: skip
WHOLE = {"generation": 1, "queries": 5, "k": 10, "curve": [POINT], "ndcg": None, "map": None, "mrr": 0.5, "root": "x"}


def test_what_the_report_does_not_show_is_passed_over() -> None:
    made = decoded(json.dumps(WHOLE).encode())
    assert (made.k, made.mrr, made.kinds) == (10, 0.5, ("image",))
    assert (point := made.usual("image")) is not None and point.recall == 0.5
    assert made.usual("text") is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists), st.data())
def test_anything_else_is_refused(value: object, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(WHOLE)))
    changed = json.dumps(WHOLE | {name: value}).encode()
    try:
        made = decoded(changed)
    except PixdexError:
        return
    assert isinstance(made, Evaluation)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"generation": 1}', b"[" * 5000])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    generation = open_generation(make_root(tmp_path / "root", [Row("a", unit(1))]))
    (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"evaluation\.json is no evaluation"):
        evaluation_in(tmp_path, generation)


def test_another_generation_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    generation = open_generation(make_root(tmp_path / "root", [Row("a", unit(1))], number=3))
    (tmp_path / "evaluation.json").write_text(json.dumps(WHOLE))
    with pytest.raises(UsageError, match=r"evaluate again, or say --generation 1"):
        evaluation_in(tmp_path, generation)
