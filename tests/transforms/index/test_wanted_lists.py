"""Lists without a row that may be returned are not probed, and the nearest of the others are."""

from typing import Any

import faiss
import numpy as np
import pytest

from tests.transforms.index.test_scan import BASE, DIM, NLIST, QUERIES, ROWS, trained
from transforms.index import wanted_lists as module
from transforms.index.scan import search_lists
from transforms.index.wanted_lists import lists_of_rows, wanted_lists
from transforms.search.open_index import _fast_merged

WANTED = np.zeros(ROWS, np.bool_)
WANTED[::50] = True
ALLOWED = np.packbits(WANTED, bitorder="little")


def lists_of(index: Any) -> list[set[int]]:
    """The ids of every list."""
    inner = faiss.extract_index_ivf(index)
    return [
        set(faiss.rev_swig_ptr(inner.invlists.get_ids(number), inner.invlists.list_size(number)).tolist())
        for number in range(inner.nlist)
    ]


def halves(index: Any) -> list[Any]:
    """The index and a copy, with some rows each."""
    one, other = faiss.clone_index(index), faiss.clone_index(index)
    one.remove_ids(faiss.IDSelectorRange(ROWS - 500, ROWS))
    other.remove_ids(faiss.IDSelectorRange(0, ROWS - 500))
    return [one, other]


@pytest.mark.parametrize("at_once", [1, 700, 1 << 20])
def test_a_list_is_wanted_when_it_holds_a_row_that_is_allowed(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "_IDS_AT_ONCE", at_once)
    index = trained(f"IVF{NLIST},Flat")
    ids = lists_of(index)
    expected = [any(WANTED[row] for row in members) for members in ids]
    whole = wanted_lists([faiss.extract_index_ivf(index)], ALLOWED)
    assert (whole.weights > 0).tolist() == expected
    assert whole.count == sum(expected)
    np.testing.assert_array_equal(wanted_lists(halves(index), ALLOWED).weights, whole.weights)


@pytest.mark.parametrize("key", ["PCA8,IVF100,PQ4x4np", "RR,IVF100,RaBitQ"])
def test_lists_that_are_scanned_fast_are_looked_through_too(key: str) -> None:
    index = trained(key)
    expected = wanted_lists([faiss.extract_index_ivf(index)], ALLOWED)
    scanned_fast = _fast_merged(index, key)
    fast = wanted_lists([faiss.extract_index_ivf(scanned_fast)], ALLOWED)
    np.testing.assert_array_equal(fast.weights, expected.weights)


def test_a_list_counts_by_the_rows_that_may_be_returned() -> None:
    index = trained("IVF20,Flat")
    sizes = np.array([len(members) for members in lists_of(index)])
    every = np.full(ROWS // 8, 0xFF, np.uint8)
    np.testing.assert_allclose(wanted_lists([index], every).weights, np.clip(sizes * 20 / ROWS, 1 / 8, 1), rtol=1e-6)
    assert set(wanted_lists([index], ALLOWED).weights.tolist()) == {1 / 8}
    assert wanted_lists([index], every & np.uint8(0x55)).total == pytest.approx(10, rel=0.05)
    assert wanted_lists([index], np.zeros(1, np.uint8)).count == 0


@pytest.mark.parametrize("key", [f"IVF{NLIST},Flat", f"IVF{NLIST}_HNSW32,Flat", "PCA8,IVF300,PQ4x4np"])
@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2])
@pytest.mark.parametrize("nprobe", [1, 10, 1000])
def test_the_nearest_of_the_wanted_lists_are_scanned(key: str, metric: int, nprobe: int) -> None:
    index = trained(key, metric)
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    among = wanted_lists([inner], ALLOWED)
    distances, ids = search_lists(index, QUERIES, 200, nprobe, ALLOWED, among=among)

    quantizer = faiss.downcast_index(inner.quantizer)
    centroids = quantizer.storage if isinstance(quantizer, faiss.IndexHNSW) else quantizer
    asked = QUERIES if inner.d == DIM else index.chain.at(0).apply(QUERIES)
    ranked = centroids.search(asked, inner.nlist)[1]
    members = lists_of(index)
    for row, order in zip(ids, ranked, strict=True):
        wanted = [number for number in order if among.weights[number] > 0]
        before = np.concatenate(([0], np.cumsum(among.weights[wanted], dtype=np.float64)))[:-1]
        goal = nprobe - 1e-3 if nprobe < among.total else np.inf
        probed = [number for number, passed in zip(wanted, before, strict=True) if passed < goal]
        reachable = set().union(*(members[number] for number in probed)) & set(np.flatnonzero(WANTED).tolist())
        assert set(row[row >= 0].tolist()) == reachable or len(reachable) > 200
    there = ids >= 0
    signs = 1 if metric == faiss.METRIC_L2 else -1
    assert all((np.diff(signs * line[seen]) >= 0).all() for line, seen in zip(distances, there, strict=True))


def test_rows_far_from_a_query_are_found_though_nearer_lists_hold_other_kinds() -> None:
    """As pictures and texts of one encoder: a text's nearest lists hold texts only."""
    rng = np.random.default_rng(0)
    gap = np.zeros(DIM, np.float32)
    gap[0] = 20
    index = faiss.index_factory(DIM, "IVF64,Flat", faiss.METRIC_L2)
    rows = np.concatenate([BASE[:2000] + gap, BASE[2000:4000] - gap])
    index.train(rows)
    index.add(rows)
    pictures = np.packbits(np.arange(4000) < 2000, bitorder="little")
    among = wanted_lists([index], pictures)
    asked = (rng.standard_normal((30, DIM)) - gap).astype(np.float32)
    assert among.total == pytest.approx(32, abs=6)
    found = search_lists(index, asked, 10, 16, pictures, among=among)[1]
    exact = np.argsort(((asked[:, None] - rows[None, :2000]) ** 2).sum(axis=2), axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    assert recall > 0.9
    assert (search_lists(index, asked, 10, 16, pictures)[1] == -1).all()


def test_the_list_of_each_row_is_the_one_that_holds_it() -> None:
    index = trained("IVF20,Flat")
    rows = np.array([3, 40, ROWS - 1, ROWS + 5])
    found = lists_of_rows(halves(index), rows)
    members = lists_of(index)
    assert found[-1] == -1 and all(row in members[number] for row, number in zip(rows[:-1], found[:-1], strict=True))
    assert lists_of_rows([index], np.empty(0, np.int64)).tolist() == []
