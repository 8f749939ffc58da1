"""What is planned without a graph is what the graph plans; a night without news ends as its stages would end it."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import build, reindex, watch
from tests.corpora import write_pictures
from tests.end_to_end.builds import TINY, generation_of
from transforms.generations import published
from transforms.records import Reindex
from transforms.runs import beginning
from transforms.runs.run import STAGES, Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import plan_at_once

BY_BEAM = ("--runner", "FnApiRunner")
NIGHT = Reindex(1)
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder of two CSVs, one row of which is a reject, and their root beside."""
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.csv").write_text("key,text\n" + "".join(f"a{number},text {number}\n" for number in range(9)))
    (folder / "b.csv").write_text("key,text\n" + "".join(f"b{number},word {number}\n" for number in range(5)) + "c,\n")
    words = ("--csv", str(folder / "*.csv"), "--key-column", "key", "--text-column", "text", *TINY)
    assert build.main(["--root", str(tmp_path / "root"), *words]) == 0
    return folder


def night(root: Path, capsys: Capture, *flags: str) -> dict[str, Any]:
    capsys.readouterr()
    assert reindex.main(["--root", str(root), "--no-progress", *flags]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return said


def begun(root: Path, goes_on: Reindex = NIGHT) -> Run:
    """A run of a night, begun."""
    return beginning.begin(Store.at(str(root)), replace(generation_of(root).request, reindex=goes_on))


def test_a_night_without_news_says_what_the_graph_says_of_it(rows: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "root"
    here, there = night(root, capsys), night(root, capsys, *BY_BEAM)
    assert here.pop("seconds").keys() == there.pop("seconds").keys() == set(STAGES)
    assert here == there
    assert (here["unchanged"], here["still_rejected"], here["generation"]) == (14, 1, 1)
    assert published.numbers(Store.at(str(root))) == [1]


def test_the_run_of_such_a_night_leaves_what_that_of_a_graph_leaves(
    rows: Path, tmp_path: Path, capsys: Capture
) -> None:
    root = tmp_path / "root"
    left = []
    for number, flags in ((2, ()), (3, BY_BEAM)):
        night(root, capsys, *flags)
        folder = root / layout.plan_folder(number)
        names = {str(file.relative_to(folder)).partition("-")[0] for file in folder.rglob("*") if file.is_file()}
        left.append({name for name in names if not name.startswith(("keys/", "train/"))})
    assert left[0] == left[1]
    assert watch.main(["--root", str(root), "--no-progress"]) == 0


@pytest.mark.parametrize("change", ["time", "row", "new file", "gone file"])
def test_what_changed_needs_the_graph(rows: Path, tmp_path: Path, change: str) -> None:
    if change == "time":
        os.utime(rows / "a.csv", (1, 1))
    elif change == "row":
        (rows / "a.csv").write_text("key,text\na0,another\n")
    elif change == "new file":
        (rows / "c.csv").write_text("key,text\nd,text\n")
    else:
        (rows / "b.csv").unlink()
    run = begun(tmp_path / "root")
    assert not plan_at_once.plan(run, 1, None, 0.5)
    assert not run.is_planned


@pytest.mark.parametrize("goes_on", [Reindex(1, retry=()), Reindex(1, repair=True)])
def test_a_night_that_looks_at_all_of_it_again_needs_the_graph(rows: Path, tmp_path: Path, goes_on: Reindex) -> None:
    assert not plan_at_once.plan(begun(tmp_path / "root", goes_on), 1, None, 0.5)


def test_a_night_that_is_to_train_anew_is_planned_and_not_ended(rows: Path, tmp_path: Path, capsys: Capture) -> None:
    run = begun(tmp_path / "root", Reindex(1, "always"))
    assert plan_at_once.plan(run, 1, None, 0.5)
    assert not plan_at_once.end_if_idle(run)
    assert night(tmp_path / "root", capsys, "--retrain", "always")["retrained"] == "asked for"


def test_a_night_that_was_killed_before_its_end_is_ended_by_the_next(
    rows: Path, tmp_path: Path, capsys: Capture
) -> None:
    root, store = tmp_path / "root", Store.at(str(tmp_path / "root"))
    run = begun(root)
    assert plan_at_once.plan(run, 1, None, 0.5)
    assert beginning.unfinished(store) is not None
    assert night(root, capsys)["unchanged"] == 14
    assert beginning.unfinished(store) is None
    assert store.exists(layout.abandoned(run.generation)) and run.stage_marker("publish") is not None


def test_pictures_need_the_graph(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 4)
    words = ("--images", str(tmp_path / "pictures"), *TINY)
    assert build.main(["--root", str(tmp_path / "root"), *words]) == 0
    assert not plan_at_once.plan(begun(tmp_path / "root"), 1, None, 0.5)
