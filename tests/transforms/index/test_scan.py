"""Lists are found by a graph as well as without one, and none is forgotten when all are asked for."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from transforms.index import resident, scan
from transforms.index.scan import search_lists
from transforms.index.vector_transforms import behind_transforms
from transforms.search.open_index import _fast_merged
from transforms.storage import mapped as mapped_memory

DIM, ROWS, NLIST = 16, 6000, 600
_RNG = np.random.default_rng(3)
BASE = _RNG.standard_normal((ROWS, DIM)).astype(np.float32)
QUERIES = _RNG.standard_normal((40, DIM)).astype(np.float32)


def trained(key: str, metric: int = faiss.METRIC_INNER_PRODUCT) -> Any:
    """An index of these vectors, built on one thread."""
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(DIM, key, metric)
    inner = faiss.extract_index_ivf(index)
    inner.cp.niter, inner.cp.min_points_per_centroid = 3, 1
    index.train(BASE)
    index.add(BASE)
    return index


@pytest.fixture(scope="module")
def graph() -> Any:
    return trained(f"IVF{NLIST}_HNSW32,Flat")


def without_graph(index: Any) -> Any:
    """The same lists, found by looking at every centroid."""
    plain = faiss.clone_index(index)
    inner = faiss.extract_index_ivf(plain)
    inner.quantizer = faiss.clone_index(faiss.downcast_index(inner.quantizer).storage)
    return plain


@pytest.mark.parametrize("nprobe", [1, 4, 16, 100, 300])
def test_a_graph_probes_the_lists_that_are_nearest(graph: Any, nprobe: int) -> None:
    _, expected = search_lists(without_graph(graph), QUERIES, 100, nprobe)
    _, found = search_lists(graph, QUERIES, 100, nprobe)
    same = [len(set(a) & set(b)) / len(set(b)) for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
    assert np.mean(same) > 0.99


@pytest.mark.parametrize("key", ["IVF600_HNSW32,Flat", "PCA8,IVF300_HNSW16,PQ4x4np", "RR,IVF300_HNSW16,RaBitQ"])
@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2])
@pytest.mark.parametrize("fast", [False, True])
def test_all_lists_are_all_lists_also_where_the_graph_does_not_lead(key: str, metric: int, *, fast: bool) -> None:
    index = trained(key, metric)
    graph = faiss.downcast_index(faiss.extract_index_ivf(index).quantizer).hnsw
    neighbours = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
    neighbours[:] = -1  # no node leads to another
    if fast and not key.endswith("Flat"):
        index = _fast_merged(index, key)
    distances, ids = search_lists(index, QUERIES[:20], ROWS, 10**6)
    assert [sorted(row) for row in ids.tolist()] == [list(range(ROWS))] * 20
    signs = 1 if metric == faiss.METRIC_L2 else -1
    assert (np.diff(signs * distances, axis=1) >= 0).all()


def test_only_ids_that_are_allowed_are_found_in_all_lists(graph: Any) -> None:
    allowed = np.packbits(np.arange(ROWS) % 3 == 0, bitorder="little")
    _, some = search_lists(graph, QUERIES, 50, 20, allowed)
    _, every = search_lists(graph, QUERIES, ROWS, NLIST, allowed)
    assert not (some % 3).any()
    assert [sorted(set(row) - {-1}) for row in every.tolist()] == [list(range(0, ROWS, 3))] * len(QUERIES)


def test_all_lists_of_a_graph_are_scored_as_without_one(graph: Any) -> None:
    distances, ids = search_lists(graph, QUERIES, 10, NLIST)
    expected, expected_ids = search_lists(without_graph(graph), QUERIES, 10, NLIST)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


@pytest.mark.parametrize("key", [f"IVF{NLIST}_HNSW32,Flat", "PCA8,IVF100,PQ4x4np"])
@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2])
@pytest.mark.parametrize("nprobe", [3, 100, NLIST])
def test_two_indexes_are_searched_like_one_that_holds_both(key: str, metric: int, nprobe: int) -> None:
    both = trained(key, metric)
    merged, other = faiss.clone_index(both), faiss.clone_index(both)
    merged.remove_ids(faiss.IDSelectorRange(ROWS - 500, ROWS))
    other.remove_ids(faiss.IDSelectorRange(0, ROWS - 500))
    deltas = faiss.extract_index_ivf(other)
    deltas.parallel_mode = 3
    beyond = np.packbits(np.arange(ROWS - 250) % 3 == 0, bitorder="little")  # no bits for the last ids
    for allowed in (None, beyond):
        distances, ids = search_lists(merged, QUERIES, 700, nprobe, allowed, faiss.downcast_index(deltas))
        expected, expected_ids = search_lists(both, QUERIES, 700, nprobe, allowed)
        there = expected_ids >= 0
        np.testing.assert_array_equal(ids >= 0, there)
        np.testing.assert_allclose(distances[there], expected[there], rtol=1e-4, atol=1e-4)
        assert ids.max() >= ROWS - 500
        assert allowed is None or (ids.max() < ROWS - 250 and not (ids[there] % 3).any())
        order = np.lexsort((ids, distances if metric == faiss.METRIC_L2 else -distances, ids < 0), axis=1)
        np.testing.assert_array_equal(order, np.broadcast_to(np.arange(700), order.shape))


def test_queries_are_searched_some_at_a_time_where_their_lists_take_much_memory(
    graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = search_lists(graph, QUERIES, 10, NLIST)
    monkeypatch.setattr(scan, "_LISTS_AT_ONCE", 7 * NLIST)
    np.testing.assert_array_equal(search_lists(graph, QUERIES, 10, NLIST)[1], expected[1])


@pytest.mark.parametrize(
    "key", ["IVF1,Flat", "IVF4,Flat", "IVF32,PQ4x4np", "IVF4,SQ8", "RR,IVF4,RaBitQ", "IVF32_HNSW8,SQfp16"]
)
@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2])
@pytest.mark.parametrize("selected", [False, True])
def test_by_id_the_lowest_ids_of_equal_rows_are_found(key: str, metric: int, *, selected: bool) -> None:
    """Few different rows, so that most are equal, also over lists; some in a second index, as deltas are."""
    index = trained(key, metric)
    index.reset()
    kinds, rng = BASE[:60], np.random.default_rng(5)
    rows, ids = kinds[rng.integers(0, 60, 3000)], np.sort(rng.permutation(9000)[:3000])
    deltas = faiss.clone_index(faiss.downcast_index(faiss.extract_index_ivf(index)))
    for part, to in ((slice(0, 2500), index), (slice(2500, 3000), deltas)):
        to.add_with_ids(behind_transforms(index, rows[part]) if to is deltas else rows[part], ids[part])
    allowed = np.packbits(rng.random(9000) < 0.5, bitorder="little") if selected else None
    for query in QUERIES[:8]:
        every, every_id = search_lists(index, query[None], 3000, 32, allowed, deltas)
        known = every_id[0] >= 0
        order = np.lexsort((every_id[0, known], every[0, known] * (-1 if metric == faiss.METRIC_INNER_PRODUCT else 1)))
        for count in (1, 10, 37, 700):
            _, found = search_lists(index, query[None], count, 32, allowed, deltas, by_id=True)
            assert found[0].tolist() == every_id[0, known][order][:count].tolist()


def test_lists_that_are_in_memory_are_not_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss.write_index(trained("IVF32,Flat"), str(tmp_path / "index.faiss"))
    mapped = faiss.read_index(str(tmp_path / "index.faiss"), faiss.IO_FLAG_MMAP)
    asked: list[int] = []
    monkeypatch.setattr(faiss.OnDiskInvertedLists, "prefetch_lists", lambda _, numbers, count: asked.append(count))
    probed = np.array([[3, 1, -1], [1, 2, 3]])
    resident.read_ahead(mapped.invlists, probed)
    assert asked == []
    monkeypatch.setattr(mapped_memory, "_mincore", None)
    resident.read_ahead(mapped.invlists, probed)
    assert asked == [3]


def test_results_do_not_depend_on_the_number_of_threads_and_no_query_has_none() -> None:
    index = trained("PCA8,IVF64,PQ4x4np")
    queries = np.random.default_rng(8).standard_normal((5000, DIM)).astype(np.float32)
    found = []
    for threads in (1, 2, 3):
        faiss.omp_set_num_threads(threads)
        found.append([search_lists(index, queries[:count], 5, 4) for count in (0, 40, 5000)])
    faiss.omp_set_num_threads(1)
    for one in found[1:]:
        for (distances, ids), (first, first_ids) in zip(one, found[0], strict=True):
            assert distances.shape == first.shape
            assert np.array_equal(distances, first) and np.array_equal(ids, first_ids)
