"""Nights on which a source lost too much, or that only try rejects in vain: nothing changes, and the next one works."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import build
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import Collection, collection, generation_of
from tests.tiers import mostly_gate
from transforms.runs import beginning
from transforms.storage import layout
from transforms.storage.store import Store

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and its index, which tests copy: of 14 pictures two are bad."""
    folder = tmp_path_factory.mktemp("first")
    made = start(folder / "sources")
    assert build.main(["--root", str(folder / "root"), *made.arguments, "--index-key", "IVF1,Flat"]) == 0
    return folder


def start(folder: Path) -> Collection:
    made = collection(folder, pictures=12, rows=8)
    made.pictures |= {"bad": -1, "worse": -2}
    made.write()
    return made


@pytest.fixture
def root(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first / "root", tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def items(first: Path, root: Path) -> Collection:
    """The collection, as it was when the index in `root` was made of it."""
    shutil.rmtree(first / "sources")
    return start(first / "sources")  # keys hold its path, so that it stays where it is


def said(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def assert_nothing_changed(root: Path) -> None:
    """No generation, and no run that would be in the way of the next night, or of a rollback."""
    store = Store.at(str(root))
    assert generation_of(root).generation == 1
    assert beginning.unfinished(store) is None
    assert not store.exists(layout.LEASE)
    assert not list(root.glob("plans/*/items/*")) or not (root / "plans" / "000002" / "items").exists()


def without_rows(items: Collection) -> None:
    items.rows.clear()


def without_most_pictures(items: Collection) -> None:
    for number in range(12):
        items.pictures.pop(f"p{number:03d}")


LOSSES = [(without_rows, "rows.csv lost 8 of the 8"), (without_most_pictures, "pictures lost 12 of the 14")]


@pytest.mark.parametrize(("lose", "source"), mostly_gate(LOSSES, quick=LOSSES[:1]))
def test_a_source_that_lost_too_much_stops_the_night_and_a_mended_one_does_not(
    items: Collection, root: Path, capsys: Capture, lose: Callable[[Collection], None], source: str
) -> None:
    lose(items)
    items.write()
    capsys.readouterr()
    assert reindexing.run(root) == 2
    error = capsys.readouterr().err
    assert source in error and "--max-gone-ratio 0.5" in error
    assert_nothing_changed(root)

    start(items.folder)
    assert reindexing.run(root) == 0
    last = said(capsys)
    assert (last["gone"], last["unchanged"], last["still_rejected"], last["new"]) == (0, 20, 2, 0)


@pytest.mark.gate
def test_a_higher_ratio_lets_it_go_and_a_dry_run_says_both(items: Collection, root: Path, capsys: Capture) -> None:
    without_rows(items)
    items.write()
    capsys.readouterr()
    assert reindexing.run(root, "--dry-run") == 2
    out, error = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["gone"] == 8
    assert "lost 8 of the 8 items" in error
    assert reindexing.run(root) == 2
    assert reindexing.run(root, "--max-gone-ratio", "1") == 0
    assert (said(capsys)["gone"], generation_of(root).totals.items) == (8, 14)


@pytest.mark.gate
def test_a_folder_that_is_not_mounted_stops_the_night(items: Collection, root: Path, capsys: Capture) -> None:
    for file in (items.folder / "pictures").iterdir():
        file.unlink()
    capsys.readouterr()
    assert reindexing.run(root) == 2
    assert "matches no file" in capsys.readouterr().err
    assert_nothing_changed(root)


@pytest.mark.gate
def test_rejects_that_are_tried_again_in_vain_publish_nothing(items: Collection, root: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert reindexing.run(root, "--retry-rejects") == 0
    last = said(capsys)
    assert (last["retried"], last["embedded"], last["generation"], last["rejected"]) == (2, 0, 1, 2)
    assert [(reason["count"], reason["type"]) for reason in last["reject_reasons"]] == [(2, "UnidentifiedImageError")]
    assert_nothing_changed(root)

    items.pictures["worse"] = 5  # another version, and so not one that is tried in vain
    items.write()
    assert reindexing.run(root, "--retry-rejects") == 0
    totals = generation_of(root).totals
    assert (generation_of(root).generation, totals.items, totals.rejected) == (3, 22, 1)
