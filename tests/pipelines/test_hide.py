"""`pixdex hide`: what is hidden is returned by no query, through nights and rollbacks, until it is shown again."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixdex
from pipelines import build, gc, hide, rollback, unhide, verify
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import QUERIES, Collection, collection, generation_of
from transforms.errors import PixdexError
from transforms.generations.manifest import Generation
from transforms.records import STORED_VERSION
from transforms.storage import layout
from transforms.storage.store import Store

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.gate


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    made = collection(folder / "sources", pictures=60, rows=20)
    assert build.main(["--root", str(folder / "root"), *made.arguments, "--index-key", "IVF2,PQ4x4"]) == 0
    return folder


@pytest.fixture
def root(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first / "root", tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def items(first: Path) -> Collection:
    return collection(first / "sources", pictures=60, rows=20)


def said(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def everything(root: Path) -> set[str]:
    """The keys that searches of any kind can return."""
    with pixdex.open(root) as opened:
        found = {
            hit.key
            for modality in ("image", "text", "any")
            for k, shortlist in ((200, 0), (200, None))
            for hit in opened.search(vector=QUERIES[0], k=k, nprobe=2, modality=modality, shortlist=shortlist)
        }
        every = opened.search(vector=QUERIES[0], k=200, nprobe=2, where="key <> ''")
        assert {hit.key for hit in every} == found
    return found


def test_what_is_hidden_is_returned_by_no_query_until_it_is_shown(
    root: Path, items: Collection, tmp_path: Path, capsys: Capture
) -> None:
    keys = sorted(everything(root))
    picture = next(key for key in keys if key.endswith("p010.png"))
    row = next(key for key in keys if key.endswith("#k003"))
    with pixdex.open(root) as before:
        capsys.readouterr()
        assert hide.main(["--root", str(root), picture, row, "file:///comes/later.png"]) == 0
        assert said(capsys) == {"generation": 2, "hidden": 3}
        assert everything(root) == {*keys} - {picture, row}
        assert picture in {hit.key for hit in before.search(vector=QUERIES[0], k=200, nprobe=2)}
        assert before.refresh() and before.generation == 2
        assert not {picture, row} & {hit.key for hit in before.search(vector=QUERIES[0], k=200, nprobe=2)}
        for how in ({"like": picture}, {"like": row}):
            with pytest.raises(pixdex.UsageError, match="has no item of the key"):
                before.search(**how)  # type: ignore[arg-type]
        assert not before.search(vector=QUERIES[0], where=f"key = '{picture}'")
    assert verify.main(["--root", str(root)]) == 0
    assert gc.main(["--root", str(root), "--keep", "1", "--older-than", "0s"]) == 0
    assert everything(root) == {*keys} - {picture, row}

    items.pictures["p010"], items.rows["k003"] = 7010, ("another text", 8003)
    items.pictures["p011"] = 7011
    items.write()
    for flags in (("--max-deltas", "9", "--max-tombstones", "1"), ("--retrain", "always")):
        assert reindexing.run(root, *flags) == 0
        assert everything(root) == {*keys} - {picture, row}
    assert hide.main(["--root", str(root), "--where", "text LIKE '%1_' OR key LIKE '%p02_.png'"]) == 0
    more = {key for key in keys if key.rpartition("#k")[2] in {f"{n:03}" for n in range(10, 20)} or "/p02" in key}
    assert everything(root) == {*keys} - {picture, row} - more
    number = generation_of(root).generation
    assert rollback.main(["--root", str(root), "--to", str(number - 1)]) == 0
    assert everything(root) == {*keys} - {picture, row} - more

    (tmp_path / "keys.txt").write_text("\n".join([*more, picture, ""]), encoding="utf-8")
    assert unhide.main(["--root", str(root), "--keys", str(tmp_path / "keys.txt")]) == 0
    assert everything(root) == {*keys} - {row}
    capsys.readouterr()
    assert unhide.main(["--root", str(root), "--all"]) == 0
    assert said(capsys)["hidden"] == 0 and everything(root) == {*keys}
    assert unhide.main(["--root", str(root), "--all"]) == 0
    assert said(capsys)["generation"] == generation_of(root).generation


def test_an_older_reader_refuses_a_generation_that_hides(first: Path, root: Path) -> None:
    flat = root.parent / "flat"
    made = collection(first / "sources", pictures=60, rows=20)
    assert build.main(["--root", str(flat), *made.arguments, "--index-key", "IVF1,Flat"]) == 0
    assert generation_of(flat).format_version == 2
    assert hide.main(["--root", str(flat), "x"]) == 0
    assert generation_of(flat).format_version == STORED_VERSION
    assert unhide.main(["--root", str(flat), "x"]) == 0
    assert generation_of(flat).format_version == 2
    store = Store.at(str(flat))
    path = layout.generation(generation_of(flat).generation)
    assert store.read_record(path, Generation).tables.hidden is None


def test_a_table_of_hidden_keys_that_is_damaged_is_named(root: Path, capsys: Capture) -> None:
    assert hide.main(["--root", str(root), "x"]) == 0
    table = generation_of(root).tables.hidden
    assert table is not None
    (root / table.path).write_bytes(b"no table")
    with pytest.raises(PixdexError, match=table.path):
        pixdex.open(root)
    assert verify.main(["--root", str(root)]) == 1
    assert table.path in capsys.readouterr().err


def lines(capsys: Capture) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "may show them" not in line]  # but for reports


def test_keys_that_are_no_items_and_conditions_without_any_are_told(
    root: Path, tmp_path: Path, capsys: Capture
) -> None:
    keys = sorted(everything(root))
    flags = ["--root", str(root)]
    capsys.readouterr()
    assert hide.main([*flags, keys[0], "nokey"]) == 0
    assert lines(capsys)[1:] == ["1 of 2 keys is no item of the root: it is kept, and hides one that comes"]
    assert hide.main([*flags, "no", "nor"]) == 0
    assert lines(capsys)[1:] == ["2 of 2 keys are no items of the root: they are kept, and hide those that come"]
    assert hide.main([*flags, "no"]) == 0
    same, line = lines(capsys)
    assert "the same 4 keys are hidden" in same and line.startswith("1 of 1 key is no item")
    assert hide.main([*flags, keys[1], "--where", f"key = '{keys[2]}'"]) == 0
    assert len(lines(capsys)) == 1
    assert hide.main([*flags, "--where", "key = 'nobody'"]) == 0
    assert lines(capsys)[1:] == ["--where is true for no item"]

    assert unhide.main([*flags, keys[0], keys[3], "no", "none"]) == 0
    assert lines(capsys)[1:] == ["2 of 4 keys were not hidden"]
    assert unhide.main([*flags, keys[0]]) == 0
    assert lines(capsys)[1:] == ["1 of 1 key was not hidden"]
    assert unhide.main([*flags, "--where", "key = 'nobody'"]) == 0
    assert lines(capsys)[1:] == ["--where is true for no item"]
    assert unhide.main([*flags, "nokey", "nor", keys[1]]) == 0
    assert lines(capsys) == [f"file://{root}: generation {generation_of(root).generation} hides 1 key"]
    assert unhide.main([*flags, "--all"]) == 0
    assert len(lines(capsys)) == 1


def test_keys_that_are_no_items_of_ready_embeddings_are_told(tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32))
    flags = ["--root", str(tmp_path / "root")]
    assert build.main([*flags, "--vectors", str(tmp_path / "a.npy")]) == 0
    named = [f"file://{tmp_path}/a.npy#{row}" for row in (0, 299, 300, "x")]
    capsys.readouterr()
    assert hide.main([*flags, *named, "nokey"]) == 0
    assert lines(capsys)[1:] == ["3 of 5 keys are no items of the root: they are kept, and hide those that come"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "name items"),
        ([" "], "is no key"),
        (["--keys", "/nowhere"], "is not a readable text"),
        (["--where", "nope = 1"], "has no column nope"),
        (["--where", "(SELECT 1) = 1"], "a condition has no SUBQUERY"),
    ],
)
def test_what_names_no_item_is_refused(root: Path, capsys: Capture, words: list[str], line: str) -> None:
    before = generation_of(root).generation
    capsys.readouterr()
    assert hide.main(["--root", str(root), *words]) == 2
    assert line in capsys.readouterr().err
    assert generation_of(root).generation == before
