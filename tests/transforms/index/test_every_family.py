"""Scores and recall of every family of keys are those of brute force, whatever vectors are indexed."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tests.tiers import mostly_gate
from tests.transforms.index import small_training
from transforms.errors import PixdexError
from transforms.index.encode import encode_batches, flat_assign
from transforms.index.scan import search_lists
from transforms.index.vector_transforms import behind_transforms
from transforms.records import Metric
from transforms.shards.vectors import VectorBatch
from transforms.storage.store import Store

ROWS, DIM, LATENT, NLIST, K = 700, 16, 5, 8, 10
Vectors = NDArray[np.float32]

FAMILIES = {
    # key: error of a score, in standard deviations of the scores of a query; and recall@10
    "Flat": (1e-3, 0.99),
    "IVF8,Flat": (1e-3, 0.99),
    "IVF8_HNSW8,Flat": (1e-3, 0.99),
    "RR16,IVF8,Flat": (1e-3, 0.99),
    "OPQ4_16,IVF8,Flat": (1e-3, 0.99),
    "Pad20,IVF8,Flat": (1e-3, 0.99),
    "PCA16,IVF8,Flat": (1e-3, 0.99),
    "PCA8,IVF8,Flat": (0.05, 0.9),
    "PCAR8,IVF8,Flat": (0.05, 0.9),
    "PCAR8,IVF8,SQ8": (0.05, 0.9),
    "OPQ4_8,IVF8,PQ4": (0.3, 0.5),
    "IVF8,SQ8": (0.05, 0.9),
    "IVF8,SQ6": (0.1, 0.8),
    "IVF8,SQ4": (0.3, 0.5),
    "IVF8,SQfp16": (0.01, 0.97),
    "IVF8,SQbf16": (0.05, 0.9),
    "IVF8,PQ8x4": (0.4, 0.4),
    "IVF8,PQ8": (0.3, 0.6),
    "RR16,IVF8,RaBitQ": (0.8, 0.2),
    "IVF8,RaBitQ4": (0.3, 0.5),
}

OTHER_SPACES = ["PCAW8,IVF8,Flat", "PCAWR8,IVF8,Flat", "L2norm,IVF8,Flat"]
"""Behind these another product or distance is meant, that of whitened or normalised vectors."""

KINDS = ["plain", "offset", "tiny", "large", "unit", "unit-offset"]
"""`unit` ones have length one; the others are indexed as they are."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Batches are small here: threads would only wait for each other."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        yield
    faiss.omp_set_num_threads(threads)


@cache
def vectors_of(kind: str) -> tuple[Vectors, Vectors]:
    """Rows and queries that vary in few directions of many, as embeddings do."""
    rng = np.random.default_rng(7)
    plane = np.linalg.qr(rng.standard_normal((DIM, LATENT)))[0].T
    latent = rng.standard_normal((ROWS + 20, LATENT)) * 0.8 ** np.arange(LATENT)
    found = latent @ plane + 0.01 * rng.standard_normal((ROWS + 20, DIM))
    if kind.endswith("offset"):
        found += 3 * np.linalg.qr(rng.standard_normal((DIM, 2)))[0][:, 0]
    if kind.startswith("unit"):
        found /= np.linalg.norm(found, axis=1, keepdims=True)
    found *= {"tiny": 1e-12, "large": 1e12}.get(kind, 1.0)
    whole = found.astype(np.float32)
    return whole[:ROWS], whole[ROWS:]


def searched(store: Store, key: str, metric: Metric, kind: str) -> tuple[Any, Vectors, NDArray[np.int64]]:
    """The index as it is trained and filled here, and what a search of all its lists finds: scores and positions."""
    rows, queries = vectors_of(kind)
    index = small_training.train(store, key, metric, rows).assembled.index
    encoded = encode_batches(index, [VectorBatch(np.arange(ROWS), rows)], flat_assign(index), ROWS)
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    for number in range(inner.nlist):
        members = np.flatnonzero(encoded.list_nos == number)
        ids, codes = encoded.ids[members], encoded.codes[members]
        inner.invlists.add_entries(number, len(members), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    index.ntotal = inner.ntotal = ROWS
    scores, ids = search_lists(index, queries, ROWS, inner.nlist)
    return index, scores, ids


def brute_force(rows: Vectors, queries: Vectors, metric: str) -> NDArray[np.float64]:
    """The score of every query with every row, float64 `(queries, rows)`."""
    wide, asked = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "ip":
        return asked @ wide.T
    return np.asarray(((asked[:, None] - wide[None]) ** 2).sum(axis=2))


def check(
    truth: NDArray[np.float64], scores: Vectors, ids: NDArray[np.int64], metric: str, error: float, recall: float
) -> None:
    assert (np.sort(ids, axis=1) == np.arange(ROWS)).all()
    assert np.isfinite(scores).all()
    off = scores - np.take_along_axis(truth, ids, axis=1)
    assert np.sqrt((off**2).mean(axis=1) / truth.var(axis=1)).mean() <= error
    nearest = np.argsort(truth if metric == "l2" else -truth, axis=1)[:, :K]
    hits = [len(set(a) & set(b)) for a, b in zip(ids[:, :K].tolist(), nearest.tolist(), strict=True)]
    assert np.mean(hits) / K >= recall


NO_ROOM = {("SQfp16", "tiny"), ("SQfp16", "large"), ("RaBitQ", "tiny"), ("RaBitQ4", "tiny")}
"""Storages that have no numbers for such vectors: a training refuses them."""

CASES = [
    (key, metric, kind)
    for key in FAMILIES
    for metric in ("ip", "l2")
    for kind in KINDS
    if (key.rpartition(",")[2], kind) not in NO_ROOM
]

QUICK = [case for place, case in enumerate(CASES) if case[0] == "PCAR8,IVF8,SQ8" or place % 13 == 0]
"""All kinds of vectors with one key, and of the others each now and then."""

OTHER_CASES = [(key, metric, kind) for key in OTHER_SPACES for metric in ("ip", "l2") for kind in KINDS]


@pytest.mark.parametrize(("key", "metric", "kind"), mostly_gate(CASES, QUICK))
def test_scores_and_recall_are_those_of_brute_force(key: str, metric: Metric, kind: str) -> None:
    _, scores, ids = searched(Store.at(f"memory://{key}"), key, metric, kind)
    error, recall = FAMILIES[key]
    check(brute_force(*vectors_of(kind), metric), scores, ids, metric, error, recall)


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize(("storage", "kind"), sorted(NO_ROOM))
def test_vectors_that_a_storage_has_no_numbers_for_are_refused(storage: str, metric: Metric, kind: str) -> None:
    with pytest.raises(PixdexError, match=r"(scale them up|scale them), or take SQ"):
        searched(Store.at("memory://room"), f"IVF8,{storage}", metric, kind)


def test_a_row_that_the_storage_has_no_number_for_is_refused_where_it_is_coded() -> None:
    index, _, _ = searched(Store.at("memory://late"), "IVF8,SQfp16", "l2", "plain")
    rows = vectors_of("plain")[0][:5] * np.float32(1e6)
    with pytest.raises(PixdexError, match="too far from its centroid for SQfp16"):
        encode_batches(index, [VectorBatch(np.arange(5), rows)], flat_assign(index))


@pytest.mark.parametrize(("key", "metric", "kind"), mostly_gate(OTHER_CASES, OTHER_CASES[::7]))
def test_behind_a_transform_that_changes_products_they_are_those_of_the_changed_vectors(
    key: str, metric: Metric, kind: str
) -> None:
    index, scores, ids = searched(Store.at(f"memory://{key}"), key, metric, kind)
    rows, queries = (behind_transforms(index, some) for some in vectors_of(kind))
    check(brute_force(rows, queries, metric), scores, ids, metric, 1e-3, 0.99)
    if key.startswith("PCAW"):
        about = rows.mean(axis=0, dtype=np.float64) if metric == "l2" else 0
        squares = ((rows - about) ** 2).sum(axis=0)
        np.testing.assert_allclose(squares, 1, rtol=0.3)


@pytest.mark.parametrize("key", ["PCA8", "PCAR8", "PCAW8", "PCAWR8", "OPQ4_8", "RR8", "Pad20"])
def test_under_inner_product_no_transform_shifts(key: str) -> None:
    index, _, _ = searched(Store.at("memory://shift"), f"{key},IVF4,Flat", "ip", "offset")
    assert not behind_transforms(index, np.zeros((1, DIM), np.float32)).any()


def test_by_distance_components_are_still_those_about_the_mean() -> None:
    rows, _ = vectors_of("offset")
    index, _, _ = searched(Store.at("memory://mean"), "PCA5,IVF4,Flat", "l2", "offset")
    behind = behind_transforms(index, rows)
    assert np.abs(behind.mean(axis=0)).max() < 0.03
    assert ((rows - rows.mean(axis=0)) ** 2).sum() == pytest.approx((behind**2).sum(), rel=0.01)
