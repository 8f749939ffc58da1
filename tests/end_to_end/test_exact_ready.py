"""Exact scores of ready embeddings: read where they lie, or stored; and never beside scores of codes."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pixdex
from pipelines import build
from tests.transforms.ready import random_vectors, save_npy, save_parquet

pytestmark = pytest.mark.gate

ROWS, DIM = 400, 16
CODES = ("--index-key", "IVF2,PQ4x4", "--no-progress")


@pytest.fixture
def ready(tmp_path: Path) -> NDArray[np.float32]:
    """The vectors of two `.npy` files and a parquet file, in the order in which they are indexed."""
    vectors = random_vectors(3 * ROWS, DIM, "<f4")
    save_npy(tmp_path / "ready" / "a.npy", vectors[:ROWS])
    save_parquet(tmp_path / "ready" / "b.parquet", vectors[ROWS : 2 * ROWS])
    save_npy(tmp_path / "ready" / "c.npy", vectors[2 * ROWS :])
    return vectors


def built(tmp_path: Path, name: str, *flags: str) -> Path:
    root = tmp_path / name
    words = ["--root", str(root), "--vectors", str(tmp_path / "ready"), *CODES, *flags]
    assert build.main(words) == 0
    return root


def nearest(vectors: NDArray[np.float32], query: NDArray[np.float32], metric: str) -> list[float]:
    """The scores of the ten nearest."""
    if metric == "ip":
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return sorted((units @ (query / np.linalg.norm(query))).tolist(), reverse=True)[:10]
    apart = vectors - query
    return sorted((np.square(apart).sum(axis=1) if metric == "l2" else np.abs(apart).sum(axis=1)).tolist())[:10]


@pytest.mark.parametrize(
    ("metric", "flags"),
    [("ip", ()), ("ip", ("--refine-store", "sq8")), ("l2", ("--no-normalize", "--metric-type", "l2"))],
)
def test_rows_of_npy_and_of_parquet_have_exact_scores(
    tmp_path: Path, ready: NDArray[np.float32], metric: str, flags: tuple[str, ...]
) -> None:
    root = built(tmp_path, "root", *flags)
    kind = "sq8" if "sq8" in flags else "f32" if metric == "l2" else "f16"
    assert {file.suffix for file in (root / "vectors").rglob("*") if file.is_file()} == {f".{kind}"}
    with pixdex.open(root) as opened:
        for query in random_vectors(5, DIM, "<f4", 7):
            hits = opened.search(vector=query, k=10, nprobe=2, shortlist=3 * ROWS)
            assert all(hit.exact for hit in hits)
            assert [hit.score for hit in hits] == pytest.approx(nearest(ready, query, metric), abs=1e-2)
        key = f"file://{tmp_path}/ready/c.npy#7"
        assert opened.search(like=key, k=1, nprobe=2)[0].key == key
        for strange in (f"file://{tmp_path}/ready/c.npy#{ROWS}", "file:///x.npy#" + "9" * 5000, "\udcff", "x", "#1"):
            with pytest.raises(pixdex.UsageError, match="has no item of the key"):
                opened.search(like=strange)


def test_exact_scores_never_stand_beside_those_of_codes(tmp_path: Path, ready: NDArray[np.float32]) -> None:
    with pixdex.open(built(tmp_path, "root", "--refine-store", "none")) as root:
        hits = root.search(vector=ready[0], k=10, nprobe=2, shortlist=3 * ROWS)
        assert not any(hit.exact for hit in hits)


@pytest.mark.parametrize("change", ["gone", "touched", "other", "shorter"])
def test_a_file_that_is_not_what_was_indexed_leaves_scores_of_codes(
    tmp_path: Path, ready: NDArray[np.float32], caplog: pytest.LogCaptureFixture, change: str
) -> None:
    root, file = built(tmp_path, "root"), tmp_path / "ready" / "c.npy"
    with pixdex.open(root) as before:
        assert all(hit.exact for hit in before.search(vector=ready[0], k=10, nprobe=2))
        codes = before.search(vector=ready[0], k=10, nprobe=2, shortlist=0)
        if change == "gone":
            file.unlink()
        elif change == "touched":
            os.utime(file, (1, 1))
        else:
            save_npy(file, ready[: ROWS if change == "other" else 3])
            os.utime(file, (1, 1))
        for opened in (before, pixdex.open(root)):
            caplog.clear()
            assert opened.search(vector=ready[0], k=10, nprobe=2, shortlist=3 * ROWS) == codes
            assert [record.levelname for record in caplog.records] == ["WARNING"] and "c.npy" in caplog.text
            opened.search(vector=ready[0], k=10, nprobe=2)
            assert len(caplog.records) == 1, "it is said once"


def test_what_a_query_is_made_of_has_its_dimension_and_cosines(tmp_path: Path, ready: NDArray[np.float32]) -> None:
    root = built(tmp_path, "root", "--no-normalize", "--metric-type", "l2")
    with pixdex.open(root) as opened:
        for length in (1, 3):
            with pytest.raises(pixdex.UsageError, match=rf"shape \(1, {length}\)"):
                opened.search(vector=np.ones(length), expand=2)
        key = f"file://{tmp_path}/ready/a.npy#0"
        for how in ({"weights": [1.0]}, {"expand": 2}):
            with pytest.raises(pixdex.UsageError, match="scores of this root are no cosines"):
                opened.search(like=key, **how)
        for wrong in (
            {"dedup": "0.9"},
            {"min_score": [1]},
            {"alpha": "3"},
            {"per_group": None},
            {"where": 3},
            {"group_by": ["uri"]},
        ):
            with pytest.raises(pixdex.UsageError, match=next(iter(wrong))):
                opened.search(like=key, **wrong)
