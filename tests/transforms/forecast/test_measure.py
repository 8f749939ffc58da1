"""Every rate that a plan rests on is measured, with the functions of a build."""

import math
from pathlib import Path

import pytest

from transforms.forecast import measure, rates

_SMALL = {
    "_ROWS": 16_384, "_DIM": 64, "_INNER": 32, "_BATCH": 1024, "_AT_ONCE": 4096, "_TIMES": 1, "_LISTS": 1024,
    "_CELLS": 16, "_FLAT_LISTS": 256, "_SUBSPACES": 8, "_ENTRIES": 10_000, "_FILE_BYTES": 1 << 16, "_LINKED": 256,
    "_FILES": 2, "_CALLS": 1, "THREADS_A_TASK": 2,
}  # fmt: skip


def test_every_rate_is_measured_but_those_of_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _SMALL.items():
        monkeypatch.setattr(measure, name, value)
    measured = {one.name: one.value for one in measure.measure(tmp_path)}
    of_the_runner = {"graph_seconds", "stage_seconds", "start_seconds", "step_seconds"}
    assert measured.keys() == rates.DEFAULT.values().keys() - of_the_runner - rates.ASSUMED
    assert all(0 < value < math.inf for value in measured.values())
