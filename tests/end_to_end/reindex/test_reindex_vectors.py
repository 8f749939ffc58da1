"""Nights of ready embeddings: a file is the same, or new, or gone, as a whole; none is copied."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import build, verify
from tests.end_to_end import reindexing
from tests.end_to_end.reindexing import assert_same, build_with_trained_of, deltas, generation_of
from transforms.search.searcher import Searcher
from transforms.shards import ready_files
from transforms.storage.store import Store

KEY = ("--index-key", "IVF4,Flat", "--no-progress")
Capture = pytest.CaptureFixture[str]


def save(folder: Path, name: str, rows: int, seed: int, bad: tuple[int, ...] = ()) -> None:
    vectors = np.random.default_rng(seed).standard_normal((rows, 16)).astype(np.float32)
    vectors[list(bad)] = np.nan
    folder.mkdir(exist_ok=True)
    np.save(folder / name, vectors)
    os.utime(folder / name, (seed + 1, seed + 1))


def found(root: Path) -> list[dict[str, float]]:
    searcher = Searcher.open(Store.at(str(root)))
    hits = searcher.search(reindexing.QUERIES, 10, nprobe=searcher.generation.trained.nlist)
    return [{hit.key: hit.score for hit in some} for some in hits]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, and an index of them in `root` beside."""
    folder = tmp_path / "vectors"
    save(folder, "a.npy", 300, 1, bad=(7,))
    save(folder, "b.npy", 200, 2)
    save(folder, "c.npy", 100, 3)
    assert build.main(["--root", str(tmp_path / "root"), "--vectors", str(folder), *KEY]) == 0
    return folder


def said(capsys: Capture) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def test_files_come_change_and_go_as_in_a_build_from_nothing(
    folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    save(folder, "d.npy", 50, 4, bad=(0, 1))
    save(folder, "b.npy", 210, 5)
    (folder / "c.npy").unlink()
    capsys.readouterr()
    assert reindexing.run(root, "--retrain", "never", "--max-tombstones", "1") == 0
    last = said(capsys)
    assert (last["new"], last["changed"], last["gone"]) == (60, 200, 100)
    assert (last["unchanged"], last["still_rejected"]) == (299, 1)
    assert (last["items"], last["rejected"], last["vectors"]) == (560, 3, 557)
    assert (deltas(root), generation_of(root).totals.tombstones) == (1, 300)
    build_with_trained_of(root, tmp_path / "anew", ["--vectors", str(folder), *KEY], monkeypatch)
    assert_same(found(root), found(tmp_path / "anew"))
    assert verify.main(["--root", str(root)]) == 0

    assert reindexing.run(root, "--retrain", "never") == 0  # 300 dead codes are too many
    assert (deltas(root), generation_of(root).totals.tombstones) == (0, 0)
    assert_same(found(root), found(tmp_path / "anew"))
    assert verify.main(["--root", str(root)]) == 0


def test_rows_that_leave_a_file_are_gone_and_too_many_stop_the_night(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    root = tmp_path / "root"
    save(folder, "a.npy", 0, 6)
    save(folder, "c.npy", 50, 7)
    for flags in (["--dry-run"], []):
        capsys.readouterr()
        assert reindexing.run(root, *flags) == 2
        out, error = capsys.readouterr()
        assert "lost 350 of the 600 items" in error and "--max-gone-ratio 0.5" in error
        assert not flags or json.loads(out.splitlines()[-1])["gone"] == 350
    assert generation_of(root).generation == 1
    assert reindexing.run(root, "--max-gone-ratio", "0.6", "--retrain", "never") == 0
    last = said(capsys)
    assert (last["new"], last["changed"], last["gone"]) == (0, 50, 350)
    assert (last["unchanged"], last["still_rejected"], last["items"], last["vectors"]) == (200, 0, 250, 250)


@pytest.mark.gate
def test_a_file_that_did_not_change_is_not_opened(
    folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    head = ready_files.npy_head

    def noting(uri: str, size: int) -> ready_files.NpyHead:
        opened.append(uri.rpartition("/")[2])
        return head(uri, size)

    monkeypatch.setattr(ready_files, "npy_head", noting)
    save(folder, "d.npy", 50, 4)
    assert reindexing.run(tmp_path / "root", "--no-report") == 0  # which draws some rows of all
    assert set(opened) == {"d.npy"}


@pytest.mark.gate
def test_a_retrain_adds_what_lives_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (folder / "b.npy").unlink()
    save(folder, "d.npy", 50, 4)
    assert reindexing.run(root, "--retrain", "always") == 0
    totals = generation_of(root).totals
    assert (totals.vectors, totals.tombstones, totals.shards, deltas(root)) == (449, 0, 3, 0)
    assert verify.main(["--root", str(root)]) == 0
    assert reindexing.run(root) == 0
    assert generation_of(root).generation == 2


@pytest.mark.gate
def test_a_file_that_came_back_is_found_again(folder: Path, tmp_path: Path) -> None:
    root, before = tmp_path / "root", found(tmp_path / "root")
    whole = (folder / "b.npy").read_bytes()
    (folder / "b.npy").unlink()
    assert reindexing.run(root, "--retrain", "never") == 0
    (folder / "b.npy").write_bytes(whole)
    assert reindexing.run(root, "--retrain", "never", "--max-deltas", "0") == 0
    assert_same(found(root), before)
    assert verify.main(["--root", str(root)]) == 0


def flat(rows: int, seed: int, components: slice) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Vectors that differ from nothing in some components only."""
    vectors = np.full((rows, 16), 0.01, np.float32)
    vectors[:, components] = np.random.default_rng(seed).standard_normal((rows, components.stop - components.start))
    return vectors


@pytest.mark.gate
@pytest.mark.parametrize(("components", "retrained"), [(slice(0, 4), False), (slice(12, 16), True)])
def test_vectors_of_another_kind_are_trained_for(
    tmp_path: Path, capsys: Capture, components: slice, retrained: bool
) -> None:
    folder = tmp_path / "vectors"
    folder.mkdir()
    np.save(folder / "a.npy", flat(3000, 1, slice(0, 4)))
    key = ("--index-key", "IVF8,PQ8x4", "--no-progress")
    assert build.main(["--root", str(tmp_path / "root"), "--vectors", str(folder), *key]) == 0
    np.save(folder / "b.npy", flat(300, 2, components))
    capsys.readouterr()
    assert reindexing.run(tmp_path / "root") == 0
    last = said(capsys)
    assert (last["retrained"] is not None) == retrained, last["retrained"]
    assert last["vectors"] == 3300
    measured = generation_of(tmp_path / "root").drift
    assert (measured is None) == retrained
    assert verify.main(["--root", str(tmp_path / "root")]) == 0


@pytest.mark.gate
def test_rejects_of_a_file_that_was_replaced_are_forgotten_also_by_a_merge(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(folder, "a.npy", 310, 6, bad=(3, 4))
    assert reindexing.run(root, "--retrain", "never", "--max-tombstones", "0") == 0
    assert generation_of(root).totals.rejected == 2
    assert verify.main(["--root", str(root)]) == 0
