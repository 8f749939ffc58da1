"""When a reindex trains anew: each criterion, just below and just above."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.transforms.small_runs import TINY
from transforms.generations.manifest import Generation
from transforms.markers import Drift
from transforms.records import IndexSettings, Reindex, Request, Retrain, Source
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.storage.store import Store
from transforms.tasks import drift

STEADY = Drift(new_rows=0.01, residual=1.10, imbalance=1.25, recall=0.70, recall_trained=0.72)
SOURCE = Source("images", "file:///pictures")


def run_of(folder: Path, retrain: Retrain = "auto", key: str = "IVF64,Flat") -> Run:
    request = Request((SOURCE,), TINY, IndexSettings(key), reindex=Reindex(1, retrain))
    return beginning.begin(Store.at(str(folder / "root")), request)


def base_of(key: str = "IVF64,Flat") -> Generation:
    return cast(Generation, SimpleNamespace(trained=SimpleNamespace(key=key, dim=16)))


def why(run: Run, measured: Drift, alive: int = 100_000, key: str = "IVF64,Flat") -> str:
    return drift.reason(run, base_of(key), measured, alive)


def test_nothing_that_is_at_its_limit_trains_anew(tmp_path: Path) -> None:
    assert why(run_of(tmp_path), STEADY) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"residual": 1.11}, "coded 1.11 times as badly"),
        ({"imbalance": 1.26}, "1.26 times as unbalanced"),
        ({"recall": 0.69}, r"recall@10 fell from 0\.72 to 0\.69"),
    ],
)
def test_each_criterion_alone_does(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    measured = replace(STEADY, **changes)
    assert re.search(said, why(run_of(tmp_path / "auto"), measured))
    assert why(run_of(tmp_path / "never", "never"), measured) == ""


def test_a_residual_that_may_be_chance_does_not(tmp_path: Path) -> None:
    assert why(run_of(tmp_path), replace(STEADY, residual=1.3, residual_error=0.1)) == ""
    assert why(run_of(tmp_path), replace(STEADY, residual=1.31, residual_error=0.1))


def test_a_residual_of_few_new_rows_does_not(tmp_path: Path) -> None:
    assert why(run_of(tmp_path), replace(STEADY, new_rows=0.0099, residual=5.0)) == ""


def test_what_was_not_measured_does_not(tmp_path: Path) -> None:
    assert why(run_of(tmp_path), Drift(0.5, None, 1.0, None, None)) == ""


def test_an_index_that_auto_has_outgrown_does(tmp_path: Path) -> None:
    run = run_of(tmp_path, key="auto")
    steady = replace(STEADY, recall=None)
    assert why(run, steady, alive=19_000, key="IVF1,Flat") == ""
    assert "auto chooses IVF" in why(run, steady, alive=1_000_000, key="IVF1,Flat")
