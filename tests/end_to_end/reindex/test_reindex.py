"""Reindex: after any sequence of changes, a search finds what it would find in an index that was built from nothing.

A few random sequences are lived through every time; sixty take a quarter of an hour:

    pytest -m slow tests/end_to_end/reindex/test_reindex.py
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import build
from tests.end_to_end import reindexing
from tests.end_to_end.builds import every_file, leftovers, rejects_of
from tests.end_to_end.reindexing import (
    Collection,
    assert_same,
    build_with_trained_of,
    collection,
    deltas,
    found,
    generation_of,
)
from tests.examples import costly
from tests.tiers import mostly_gate
from transforms.runs import beginning
from transforms.storage.store import Store

KEY = ("--index-key", "IVF4,Flat")
Capture = pytest.CaptureFixture[str]


def said(capsys: Capture) -> dict[str, Any]:
    """The last line on stdout."""
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and its index, which tests copy."""
    folder = tmp_path_factory.mktemp("first")
    made = collection(folder / "sources")
    assert build.main(["--root", str(folder / "root"), *made.arguments, *KEY]) == 0
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def items(first: Path, root: Path) -> Collection:
    """A collection, as it was when the index in `root` was made of it."""
    shutil.copytree(first / "root", root)
    return collection(first / "sources")  # keys hold its path, so that it stays where it is


def test_nothing_changed_makes_no_generation_and_embeds_nothing(items: Collection, root: Path, capsys: Capture) -> None:
    before = {path: stat for path, stat in every_file(root).items() if not path.startswith("plans/")}
    capsys.readouterr()
    assert reindexing.run(root) == 0

    last = said(capsys)
    assert (last["generation"], last["embedded"], last["items"], last["vectors"]) == (1, 0, 140, 180)
    assert (last["new"], last["changed"], last["gone"], last["unchanged"]) == (0, 0, 0, 140)
    after = {path: stat for path, stat in every_file(root).items() if not path.startswith("plans/")}
    assert after == before
    assert beginning.unfinished(Store.at(str(root))) is None
    assert not (root / "plans" / "000002" / "items").exists(), "listings of idle nights would pile up"


def test_new_items_are_found_beside_the_merged_index(items: Collection, root: Path, capsys: Capture) -> None:
    items.pictures |= {f"new{number}": 500 + number for number in range(5)}
    items.write()
    capsys.readouterr()
    assert reindexing.run(root) == 0

    last = said(capsys)
    assert (last["generation"], last["embedded"], last["new"], last["items"], last["vectors"]) == (2, 5, 5, 145, 185)
    assert deltas(root) == 1
    assert generation_of(root).index.path == "index/000001/index.faiss"
    keys = set().union(*found(root))
    assert any("new" in key for key in keys)


def test_what_is_gone_or_changed_is_not_found_any_more_and_k_results_come(items: Collection, root: Path) -> None:
    del items.pictures["p003"], items.rows["k004"]
    items.pictures["p005"] = 900
    items.write()
    assert reindexing.run(root, "--max-tombstones", "1") == 0

    totals = generation_of(root).totals
    assert (totals.items, totals.vectors, totals.tombstones) == (138, 177, 4)
    results = found(root)
    assert all(len(result) == reindexing.K for result in results)
    assert not any("p003" in key or "k004" in key for result in results for key in result)


@pytest.mark.gate
def test_dead_codes_are_dropped_when_there_are_too_many(items: Collection, root: Path) -> None:
    for number in range(10):
        del items.pictures[f"p{number:03d}"]
    items.write()
    assert reindexing.run(root, "--max-tombstones", "1") == 0
    before = found(root)
    assert generation_of(root).totals.tombstones == 10
    assert reindexing.run(root) == 0

    assert generation_of(root).totals.tombstones == 0
    assert generation_of(root).index.path == "index/000003/index.faiss"
    assert_same(found(root), before)


@pytest.mark.gate
def test_deltas_are_merged_when_there_are_too_many(items: Collection, root: Path) -> None:
    for night in range(6):
        items.pictures[f"night{night}"] = 700 + night
        items.write()
        assert reindexing.run(root) == 0
    # Four deltas, then the fifth merges all; the sixth is a delta again.
    assert deltas(root) == 1
    assert generation_of(root).index.path == "index/000006/index.faiss"
    assert generation_of(root).totals.vectors == 186


def renamed(items: Collection) -> None:
    items.pictures["other name"] = items.pictures.pop("p001")


def replaced_by_another_files_bytes(items: Collection) -> None:
    items.pictures["p001"] = items.pictures["p002"]


def reordered(items: Collection) -> None:
    items.rows = dict(reversed(items.rows.items()))


def only_the_picture_of_a_row_changed(items: Collection) -> None:
    items.rows["k001"] = (items.rows["k001"][0], 2000)


def only_the_text_of_a_row_changed(items: Collection) -> None:
    items.rows["k001"] = ("other words", items.rows["k001"][1])


def a_picture_turns_bad(items: Collection) -> None:
    items.pictures["p001"] = -1


EDITS: dict[Callable[[Collection], None], tuple[int, int, int]] = {
    renamed: (1, 0, 1),
    replaced_by_another_files_bytes: (0, 1, 0),
    reordered: (0, 0, 0),
    only_the_picture_of_a_row_changed: (0, 1, 0),
    only_the_text_of_a_row_changed: (0, 1, 0),
    a_picture_turns_bad: (0, 1, 0),
}


@pytest.mark.parametrize(
    "edit", mostly_gate(EDITS, quick=[renamed, only_the_text_of_a_row_changed]), ids=lambda edit: edit.__name__
)
def test_each_kind_of_change_is_seen_as_what_it_is(
    items: Collection, root: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Collection], None],
) -> None:  # fmt: skip
    edit(items)
    items.write()
    capsys.readouterr()
    assert reindexing.run(root) == 0
    last = said(capsys)
    assert (last["new"], last["changed"], last["gone"]) == EDITS[edit]
    build_with_trained_of(root, tmp_path / "anew", [*items.arguments, *KEY], monkeypatch)
    assert_same(found(root), found(tmp_path / "anew"))


@pytest.mark.gate
def test_a_picture_that_turns_bad_and_good_again_is_found_again(items: Collection, root: Path, capsys: Capture) -> None:
    before, seed = found(root), items.pictures["p001"]
    items.pictures["p001"] = -1
    items.write()
    assert reindexing.run(root) == 0
    assert generation_of(root).totals.rejected == 1
    capsys.readouterr()
    assert reindexing.run(root) == 0
    assert (said(capsys)["still_rejected"], len(rejects_of(root))) == (1, 1)

    items.pictures["p001"] = seed
    items.write()
    assert reindexing.run(root) == 0
    assert (generation_of(root).totals.rejected, rejects_of(root)) == (0, [])
    assert_same(found(root), before)


@pytest.mark.gate
def test_rejects_are_tried_again_when_that_is_asked_for(items: Collection, root: Path, capsys: Capture) -> None:
    items.pictures |= {"bad": -1, "worse": -2}
    items.write()
    assert reindexing.run(root) == 0
    (kind,) = {reject["type"] for reject in rejects_of(root)}
    for flags, retried in (([], 0), (["--retry-rejects", "OtherError"], 0), (["--retry-rejects", kind], 2)):
        capsys.readouterr()
        assert reindexing.run(root, *flags) == 0
        assert said(capsys)["retried"] == retried, flags
    assert len(rejects_of(root)) == generation_of(root).totals.rejected == 2


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(items: Collection, root: Path, capsys: Capture) -> None:
    items.pictures["new"] = 500
    del items.rows["k000"]
    items.write()
    before = every_file(root)
    capsys.readouterr()
    assert reindexing.run(root, "--dry-run") == 0

    last = said(capsys)
    assert (last["generation"], last["new"], last["gone"], last["unchanged"]) == (1, 1, 1, 139)
    assert every_file(root) == before


def test_retraining_embeds_nothing_and_finds_the_same(items: Collection, root: Path, capsys: Capture) -> None:
    items.pictures |= {f"new{number}": 500 + number for number in range(5)}
    del items.pictures["p000"]
    items.write()
    assert reindexing.run(root) == 0
    before, trained = found(root), generation_of(root).trained
    capsys.readouterr()
    assert reindexing.run(root, "--retrain", "always") == 0

    last = said(capsys)
    assert (last["embedded"], last["retrained"], last["tombstones"]) == (0, "asked for", 0)
    assert generation_of(root).trained != trained
    assert deltas(root) == 0
    assert_same(found(root), before)


PICTURES = [f"p{number:03d}" for number in range(100)]
KEYS = [f"k{number:03d}" for number in range(40)]
EDIT = st.one_of(
    st.tuples(st.just("picture"), st.sampled_from([*PICTURES, "new 1", "neu ü", "n#3"]), st.integers(-3, 60)),
    st.tuples(st.just("rename"), st.sampled_from(PICTURES), st.sampled_from(["moved", "p999"])),
    st.tuples(st.just("no picture"), st.sampled_from(PICTURES), st.none()),
    st.tuples(st.just("text"), st.sampled_from([*KEYS, "k900", "k901"]), st.integers(0, 50)),
    st.tuples(st.just("row picture"), st.sampled_from(KEYS), st.integers(-2, 60)),
    st.tuples(st.just("no row"), st.sampled_from(KEYS), st.none()),
    st.tuples(st.just("reorder"), st.none(), st.none()),
)


def apply(items: Collection, edit: tuple[str, Any, Any]) -> None:
    what, name, value = edit
    if what == "picture":
        items.pictures[name] = value
    elif what == "rename" and name in items.pictures:
        items.pictures[value] = items.pictures.pop(name)
    elif what == "no picture":
        items.pictures.pop(name, None)
    elif what == "text":
        items.rows[name] = (f"words {value}", items.rows.get(name, ("", 3000))[1])
    elif what == "row picture" and name in items.rows:
        items.rows[name] = (items.rows[name][0], value)
    elif what == "no row":
        items.rows.pop(name, None)
    elif what == "reorder":
        items.rows = dict(sorted(items.rows.items(), key=lambda row: row[1]))


NIGHT = st.tuples(st.lists(EDIT, max_size=8), st.sampled_from([(), ("--max-deltas", "0")]))


NIGHTS = st.lists(NIGHT, min_size=1, max_size=3)


@pytest.mark.gate
@costly
@given(nights=NIGHTS)
def test_any_sequence_of_changes_ends_where_a_build_from_nothing_would(
    first: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, nights: list[Any]
) -> None:
    root, anew = tmp_path_factory.mktemp("root") / "root", tmp_path_factory.mktemp("anew") / "root"
    shutil.copytree(first / "root", root)
    items = collection(first / "sources")
    for edits, flags in nights:
        for edit in edits:
            apply(items, edit)
        items.write()
        assert reindexing.run(root, "--retrain", "never", "--max-gone-ratio", "1", *flags) == 0
    build_with_trained_of(root, anew, [*items.arguments, *KEY], monkeypatch)

    mine, theirs = generation_of(root).totals, generation_of(anew).totals
    assert (mine.items, mine.rejected, mine.vectors) == (theirs.items, theirs.rejected, theirs.vectors)
    assert_same(found(root), found(anew))
    assert reindexing.run(root, "--retrain", "never", "--max-deltas", "0", "--max-tombstones", "0") == 0
    assert generation_of(root).totals.tombstones == deltas(root) == 0
    assert_same(found(root), found(anew))
    assert not leftovers(root)


@pytest.mark.gate
def test_a_picture_that_is_called_like_a_row_of_a_csv_that_was_not_opened_is_refused(
    tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "rows.csv").write_text("key,text\n1.png,words\n", encoding="utf-8")
    items = collection(tmp_path / "sources", pictures=3, rows=0)
    sources = ("--images", str(tmp_path / "*.png"), "--csv", str(tmp_path / "rows.csv"), "--text-column", "text")
    shutil.copy(tmp_path / "sources" / "pictures" / "p000.png", tmp_path / "a.png")
    root = tmp_path / "root"
    assert build.main(["--root", str(root), *sources, "--key-column", "key", *items.arguments[-5:]]) == 0
    shutil.copy(tmp_path / "a.png", tmp_path / "rows.csv#1.png")
    capsys.readouterr()
    assert reindexing.run(root) == 2
    assert "rows.csv#1.png is the key of" in capsys.readouterr().err
    assert generation_of(root).generation == 1
