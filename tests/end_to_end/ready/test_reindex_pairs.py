"""Nights of pairs: a part is the same, or new, or gone, with pictures, texts and metadata together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import build, verify
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import assert_same, build_with_trained_of, deltas, found, generation_of
from tests.tiers import mostly_gate
from tests.transforms.clip_folders import text_seed, unit_vectors, write_part
from transforms.search.searcher import Searcher
from transforms.storage.store import Store

KEY = ("--index-key", "IVF4,Flat", "--no-progress")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three parts, and an index of them in `root` beside."""
    for number, rows in enumerate((300, 200, 100)):
        write_part(tmp_path / "out", number, rows, bad=("text:7",) if number == 0 else ())
    assert build.main(["--root", str(tmp_path / "root"), "--vectors", str(tmp_path / "out"), *KEY]) == 0
    return tmp_path / "out"


def said(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def remove(folder: Path, number: int) -> None:
    for file in folder.rglob(f"*_{number}.*"):
        file.unlink()


def test_parts_come_change_and_go_as_in_a_build_from_nothing(
    folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_part(folder, 3, 50, bad=("image:0", "text:1"))
    np.save(folder / "text_emb/text_emb_1.npy", unit_vectors(200, 77))  # its pictures are what they were
    remove(folder, 2)
    capsys.readouterr()
    assert reindexing.run(root, "--retrain", "never", "--max-tombstones", "1") == 0
    last = said(capsys)
    assert (last["new"], last["changed"], last["gone"]) == (50, 200, 100)
    assert (last["unchanged"], last["still_rejected"]) == (299, 1)
    assert (last["items"], last["rejected"], last["vectors"]) == (550, 3, 2 * 547)
    assert (deltas(root), generation_of(root).totals.tombstones) == (1, 600)
    build_with_trained_of(root, tmp_path / "anew", ["--vectors", str(folder), *KEY], monkeypatch)
    assert_same(found(root), found(tmp_path / "anew"))
    assert verify.main(["--root", str(root)]) == 0

    assert reindexing.run(root, "--retrain", "never") == 0  # 600 dead codes are too many
    assert generation_of(root).totals.tombstones == 0
    assert_same(found(root), found(tmp_path / "anew"))
    assert verify.main(["--root", str(root)]) == 0
    number = generation_of(root).generation
    assert reindexing.run(root) == 0
    assert generation_of(root).generation == number  # nothing to do


@pytest.mark.parametrize("what", mostly_gate(["img_emb", "text_emb", "metadata"], quick=["metadata"]))
def test_a_part_is_changed_whichever_of_its_files_is(folder: Path, tmp_path: Path, capsys: Capture, what: str) -> None:
    (file,) = (folder / what).glob("*_1.*")
    file.touch()
    capsys.readouterr()
    assert reindexing.run(tmp_path / "root", "--dry-run") == 0
    last = said(capsys)
    assert (last["new"], last["changed"], last["gone"], last["unchanged"]) == (0, 200, 0, 399)


@pytest.mark.gate
def test_rows_that_are_appended_to_a_part_are_new(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "root"
    write_part(folder, 1, 230)
    capsys.readouterr()
    assert reindexing.run(root, "--retrain", "never") == 0
    last = said(capsys)
    assert (last["new"], last["changed"], last["gone"], last["vectors"]) == (30, 200, 0, 2 * 629)
    searcher = Searcher.open(Store.at(str(root)))
    query = unit_vectors(230, text_seed(1))[225:226].astype(np.float32)
    (hits,) = searcher.search(query, 1, nprobe=4)
    assert (hits[0].key, hits[0].modality) == (f"file://{folder}/img_emb/img_emb_1.npy#225", "text")
    assert verify.main(["--root", str(root)]) == 0


def test_a_night_that_lost_a_kind_of_files_is_stopped(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    for file in (folder / "text_emb").glob("*_2.npy"):
        file.unlink()
    capsys.readouterr()
    assert reindexing.run(tmp_path / "root") == 2
    error = capsys.readouterr().err
    assert "text_emb matches 2 files, --vectors" in error and "they must be as many" in error
    assert generation_of(tmp_path / "root").generation == 1
