"""Progress, read from markers."""

import io
import os
import sys
import termios
import time
from pathlib import Path

import pytest

from pipelines.terminal import progress
from tests.transforms.small_runs import begin, pictures
from transforms.markers import StageMarker
from transforms.records import FileReference, Plan
from transforms.runs.run import STAGES, Run, Stage
from transforms.storage import layout

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begin(tmp_path / "root", pictures(tmp_path))


def finish(run: Run, *stages: Stage, at: float = 0.0) -> None:
    for number, stage in enumerate(stages, start=1):
        run.store.commit(layout.stage_marker(1, stage), StageMarker(stage, number, at + number))


def plan(run: Run) -> None:
    table = FileReference("plans/000001/partitions.parquet", 1, f"sha256:{0:064}")
    run.store.commit(layout.plan(1), Plan(1, "0" * 64, table, 0, 4, 2, 10, 10, "IVF1,Flat"))


def test_on_no_terminal_each_stage_is_one_line(run: Run, capsys: Capture) -> None:
    plan(run)
    with progress.shown(run, wanted=True):
        finish(run, *STAGES)
    assert capsys.readouterr().err.splitlines() == [
        "      plan done: 1 plan",
        "     embed done: 2 shards",
        "      keys done: 3 key buckets",
        "tombstones done: 4 folders of shards",
        "     drift done: 5 measurements",
        "    sample done: 6 blocks",
        "   parents done: 7 sets of parents",
        "     route done: 8 blocks",
        "     cells done: 9 groups of cells",
        "     pass1 done: 10 groups of cells",
        "     move1 done: 11 sets of lists",
        "     pass2 done: 12 groups of cells",
        "     move2 done: 13 sets of lists",
        "     train done: 14 trained indexes",
        "       add done: 15 blocks",
        "   compact done: 16 blocks",
        "      tier done: 17 files",
        "     merge done: 18 pieces",
        "   publish done: 19 generations",
    ]


def test_a_stage_without_tasks_has_no_line(run: Run, capsys: Capture) -> None:
    for stage in STAGES:
        run.store.commit(layout.stage_marker(1, stage), StageMarker(stage, int(stage != "tier"), 0.0))
    with progress.shown(run, wanted=True):
        pass
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == [stage for stage in STAGES if stage != "tier"]
    assert said[1] == "     embed done: 1 shard"


def test_a_stage_that_never_ended_is_not_said_to_be_done(run: Run, capsys: Capture) -> None:
    with progress.shown(run, wanted=True):
        finish(run, "plan", "embed")
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_an_error_of_the_job_comes_through(run: Run) -> None:
    with pytest.raises(ValueError, match="mine"), progress.shown(run, wanted=True):
        raise ValueError("mine")


def test_it_can_be_left_out(run: Run, capsys: Capture) -> None:
    with progress.shown(run, wanted=False):
        finish(run, *STAGES)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_counts_the_markers_of_the_stage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LOOKS", 0.01)
    plan(run)
    finish(run, "plan")
    with progress.shown(run, wanted=True):
        for shard in range(3):
            run.store.create(layout.marker(1, "embed", shard), b"{}")
        time.sleep(0.2)
    assert "3/4 shards" in terminal.getvalue()
    assert "4/4" not in terminal.getvalue()


@pytest.mark.parametrize(("columns", "shown"), [(0, "    embed done: 2 shards"), (80, "2/4 shards")])
def test_a_terminal_of_no_columns_gets_lines_and_one_of_no_lines_a_bar(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: int, shown: str
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LOOKS", 0.01)
    plan(run)
    stages: list[Stage] = ["plan", "embed"] if columns == 0 else ["plan"]
    finish(run, *stages)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (0, columns))
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        for shard in range(2):
            run.store.create(layout.marker(1, "embed", shard), b"{}")
        with progress.shown(run, wanted=True):
            time.sleep(0.1)
        assert shown in screen.read(10_000).decode()


def test_seconds_are_those_of_the_stages_that_this_job_ran(run: Run) -> None:
    finish(run, "plan", at=100)
    finish(run, "embed", "sample", at=200)
    assert progress.stage_seconds(run, 150) == {"embed": 51.0, "sample": 1.0}
    assert progress.stage_seconds(run, 0) == {"plan": 101.0, "embed": 100.0, "sample": 1.0}
    assert progress.stage_seconds(run, 300) == {}
