"""When stages were worked on, where a command was killed on the way."""

from pathlib import Path

import pytest

from tests.benchmarks.scale import watched
from transforms.markers import StageMarker
from transforms.runs.run import Run, Stage
from transforms.storage import layout
from transforms.storage.store import Store


def _run(root: Path, finished: dict[Stage, float]) -> Run:
    store = Store.at(str(root))
    for stage, at in finished.items():
        store.commit(layout.stage_marker(1, stage), StageMarker(stage, 1, at))
    return Run(store, 1)


def test_the_stage_that_was_killed_was_worked_on_twice(tmp_path: Path) -> None:
    run = _run(tmp_path, {"plan": 110.0, "embed": 130.0, "add": 350.0, "publish": 360.0})
    windows = watched.stage_windows(run, [(100.0, 200.0), (300.0, 365.0)])
    assert windows["plan"] == [(100.0, 110.0)]
    assert windows["embed"] == [(110.0, 130.0)]
    assert windows["add"] == [(130.0, 200.0), (300.0, 350.0)]
    assert windows["publish"] == [(350.0, 360.0)]


def test_a_root_without_a_build_is_not_taken_for_one_that_was_killed(tmp_path: Path) -> None:
    assert watched.standing(tmp_path) is None
    with pytest.raises(SystemExit, match="remove it"):
        watched.begun(tmp_path)
