"""`pixdex augment`: a root of the same rows, each with its neighbours added."""

from pathlib import Path

import numpy as np
import pytest

import pixdex
from pipelines import augment, build, verify
from tests.end_to_end.builds import EVERYTHING, TINY, generation_of, make_work_small
from tests.pipelines.derive import roots
from tests.pipelines.derive.roots import Rows, rows_of
from transforms.generations import manifest
from transforms.records import DERIVED_VERSION

ALL_LISTS = ("--nprobe", "4")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return roots.make(tmp_path_factory.mktemp("augment"))


def made(root: Path, to: Path, *words: str) -> Rows:
    assert augment.main(["--root", str(root), "--to", str(to), "--no-progress", *words]) == 0
    return rows_of(to)


@pytest.mark.parametrize(("neighbours", "alpha"), [(3, 3.0), pytest.param(6, 0.0, marks=pytest.mark.gate)])
def test_vectors_are_those_of_the_definition_and_all_else_stays(
    root: Path, tmp_path: Path, neighbours: int, alpha: float
) -> None:
    before = rows_of(root)
    words = ("--neighbours", str(neighbours), "--alpha", str(alpha), *ALL_LISTS)
    after = made(root, tmp_path / "new", *words)
    assert after.table.drop_columns("id") == before.table.drop_columns("id")
    assert {"group", "name"} <= set(after.table.column_names)
    np.testing.assert_allclose(after.vectors, roots.augmented(before, neighbours, alpha), atol=2e-3)
    assert verify.main(["--root", str(tmp_path / "new")]) == 0


def test_what_is_dead_or_hidden_does_not_travel(root: Path, tmp_path: Path) -> None:
    made(root, tmp_path / "new")
    totals = generation_of(tmp_path / "new").totals
    assert totals.tombstones == 0 and totals.vectors == len(rows_of(root).vectors)
    with pixdex.open(root) as old, pixdex.open(tmp_path / "new") as new:
        shown = [{hit.key for hit in one.search("text 3", k=200, nprobe=4)} for one in (old, new)]
    assert shown[0] == shown[1] and not any(key.endswith(("#name 3", "#name 14")) for key in shown[1])


def test_without_neighbours_vectors_are_the_same(root: Path, tmp_path: Path) -> None:
    after = made(root, tmp_path / "new", "--neighbours", "0")
    assert (after.vectors == rows_of(root).vectors).all()


def test_in_many_small_shards_it_is_the_same(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    make_work_small(monkeypatch)
    sources = ("--csv", str(root.parent / "first.csv"), "--key-column", "name", *EVERYTHING, *TINY)
    assert build.main(["--root", str(small), *sources, "--index-key", "IVF4,Flat", "--encoder-threads", "1"]) == 0
    assert generation_of(small).totals.shards > 3
    after = made(small, tmp_path / "new", "--neighbours", "4", *ALL_LISTS)
    assert generation_of(tmp_path / "new").totals.shards == generation_of(small).totals.shards
    np.testing.assert_allclose(after.vectors, roots.augmented(rows_of(small), 4, 3.0), atol=2e-3)


@pytest.mark.parametrize("key", ["Flat", pytest.param("IVF4,SQ8", marks=pytest.mark.gate)])
def test_of_ready_embeddings_shards_have_the_vectors_and_what_stood_beside_them(tmp_path: Path, key: str) -> None:
    words = roots.write_ready(tmp_path / "ready")
    assert build.main(["--root", str(tmp_path / "root"), *words, "--index-key", key]) == 0
    same = made(tmp_path / "root", tmp_path / "same", "--neighbours", "0")
    raw = np.load(tmp_path / "ready" / "rows.npy")
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(same.vectors, unit, rtol=1e-6)
    assert same.table["label"].to_pylist() == [n % 3 for n in range(300)]
    assert same.table["caption"].to_pylist() == [f"words {n}" for n in range(300)]
    assert [key.rpartition("#")[2] for key in same.table["key"].to_pylist()] == [str(n) for n in range(300)]
    after = made(tmp_path / "root", tmp_path / "new", "--nprobe", "4")
    np.testing.assert_allclose(after.vectors, roots.augmented(same, 10, 3.0), atol=1e-5)
    with pixdex.open(tmp_path / "new") as opened:
        hits = opened.search(vector=after.vectors[17], k=1, where="label = 2", dedup="content")
        assert hits[0].key.endswith("rows.npy#17") and hits[0].columns["label"] == 2
        with pytest.raises(pixdex.UsageError, match="holds ready embeddings and knows no encoder"):
            opened.search("words")


def test_rows_without_stored_vectors_are_taken_out_of_shards(tmp_path: Path, root: Path) -> None:
    sources = ("--csv", str(root.parent / "first.csv"), "--text-column", "description", *TINY)
    words = ("--index-key", "IVF2,SQ8", "--refine-store", "none")
    assert build.main(["--root", str(tmp_path / "root"), *sources, *words]) == 0
    after = made(tmp_path / "root", tmp_path / "new", "--neighbours", "1", "--alpha", "0", "--nprobe", "2")
    close = np.abs(after.vectors - roots.augmented(rows_of(tmp_path / "root"), 1, 0.0)).max(axis=1) < 2e-3
    assert close.mean() > 0.9  # neighbours that are nearly as near are told apart by codes


def test_an_older_pixdex_refuses_the_new_root_by_its_version(root: Path, tmp_path: Path) -> None:
    made(root, tmp_path / "new", "--neighbours", "0")
    generation = generation_of(tmp_path / "new")
    assert generation.format_version == generation.request.format_version == DERIVED_VERSION
    assert generation_of(root).format_version < DERIVED_VERSION
    assert manifest.seal(generation) == generation
