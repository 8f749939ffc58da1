"""Opening an index: mapped as it lies, or read and converted for fast scans."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.roots import Row, make_root, unit, write_merged
from tests.tiers import mostly_gate
from transforms.errors import PixdexError, UsageError
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.search.open_index import open_index
from transforms.storage.store import Store

DIM, ROWS = 32, 2000


def root_of(tmp_path: Path, key: str) -> tuple[Store, Generation, Any]:
    """A root whose merged index is one of this key; the index as faiss has it in memory."""
    store = make_root(tmp_path / "root", [Row("a", unit(1))])
    generation = published.current(store)
    assert generation is not None
    faiss.omp_set_num_threads(1)
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
    faiss.normalize_L2(vectors)
    index = faiss.index_factory(DIM, key, faiss.METRIC_INNER_PRODUCT)
    faiss.extract_index_ivf(index).cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(ROWS) * 3)
    faiss.extract_index_ivf(index).nprobe = 8
    inner = faiss.extract_index_ivf(index)
    merged, segments = write_merged(store, index)
    return store, replace(
        generation,
        index=merged,
        tables=replace(generation.tables, segments=segments),
        totals=replace(generation.totals, vectors=ROWS),
        trained=replace(generation.trained, key=key, dim=DIM, nlist=inner.nlist, code_size=inner.code_size),
    ), index  # fmt: skip


@pytest.mark.parametrize("key", ["IVF8,PQ16x4np", "PCA32,IVF8,PQ16x4np", "IVF8,RaBitQ", "PCA32,IVF8,RaBitQ"])
def test_fast_scan_finds_nearly_what_the_plain_scan_finds(tmp_path: Path, key: str) -> None:
    store, generation, index = root_of(tmp_path, key)
    queries = np.random.default_rng(1).standard_normal((30, DIM)).astype(np.float32)
    _, expected = index.search(queries, 10)
    fast = open_index(store, generation, fast_scan=True).merged
    _, found = fast.search(queries, 10)
    same = np.mean([len(set(a) & set(b)) for a, b in zip(found.tolist(), expected.tolist(), strict=True)])
    assert same >= 9
    assert "FastScan" in type(faiss.downcast_index(faiss.extract_index_ivf(fast))).__name__
    assert fast.ntotal == ROWS


@pytest.mark.parametrize(
    "key",
    mostly_gate(
        ["IVF8,PQ16x4np", "PCA32,IVF8,PQ16x4np", "IVF8_HNSW32,PQ16x4np", "IVF8,RaBitQ", "PCA32,IVF8,RaBitQ"],
        quick=["PCA32,IVF8,PQ16x4np"],
    ),
)
def test_fast_scan_finds_the_same_when_all_that_nobody_names_is_freed(tmp_path: Path, key: str) -> None:
    store, generation, _ = root_of(tmp_path, key)
    queries = np.random.default_rng(1).standard_normal((30, DIM)).astype(np.float32)
    fast = open_index(store, generation, fast_scan=True).merged
    expected = fast.search(queries, 10)
    for _ in range(3):
        gc.collect()
        other = open_index(store, generation, fast_scan=True).merged  # takes the memory that was freed
        other.reset()
        del other
    distances, ids = fast.search(queries, 10)
    np.testing.assert_array_equal(ids, expected[1])
    np.testing.assert_array_equal(distances, expected[0])


@pytest.mark.parametrize("key", ["IVF8,Flat", "IVF8,PQ4np", "IVF8,SQ8"])
def test_what_cannot_be_scanned_fast_says_what_can(tmp_path: Path, key: str) -> None:
    store, generation, _ = root_of(tmp_path, key)
    with pytest.raises(UsageError, match=rf"{key} cannot be scanned fast: only 4-bit PQ .* RaBitQ"):
        open_index(store, generation, fast_scan=True)
    assert open_index(store, generation).ntotal == ROWS


def test_an_index_of_another_size_or_count_is_refused(tmp_path: Path) -> None:
    store, generation, _ = root_of(tmp_path, "IVF8,Flat")
    with pytest.raises(PixdexError, match=f"holds {ROWS} vectors and the deltas 0, generation 1 names 7 and 0 dead"):
        open_index(store, replace(generation, totals=replace(generation.totals, vectors=7)))
    store.local_path(generation.index.path).write_bytes(b"cut")
    with pytest.raises(PixdexError, match="has 3 bytes"):
        open_index(store, generation)
