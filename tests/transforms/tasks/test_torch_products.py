"""Adding by torch: on tensors of the CPU, the lists and codes that numpy and faiss make, to the bit."""

import faiss
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.transforms.index.test_assignment import blanks, centroids, two_level
from transforms.errors import UsageError
from transforms.index.assignment import FlatAssigner, TwoLevelAssigner
from transforms.index.encode import encode_batches, flat_assign
from transforms.index.scores.elsewhere import doubtful
from transforms.shards.vectors import VectorBatch
from transforms.tasks.torch_products import TorchProducts, torch_products

NLIST, D, ROWS = 64, 64, 3000
ON_CPU = TorchProducts(torch.device("cpu"))


@pytest.mark.parametrize("spherical", [True, False])
def test_lists_are_those_of_numpy(spherical: bool) -> None:
    lists, vectors = blanks(1e-6)
    lists[900] = lists[17]
    some = np.concatenate([vectors[:2000], lists[:20]])
    expected = FlatAssigner(lists, spherical).assign(some)
    np.testing.assert_array_equal(FlatAssigner(lists, spherical, ON_CPU).assign(some), expected)
    grouped = two_level(lists, spherical=spherical, cells=64)
    there = TwoLevelAssigner(grouped.parents, grouped.centroids, grouped.bounds, spherical, ON_CPU)
    for probes in (1, 5, 64):
        np.testing.assert_array_equal(there.assign(some, probes), grouped.assign(some, probes))


def test_a_cell_of_one_list_has_no_second() -> None:
    lists, vectors = centroids(1, 20), centroids(2, 500)
    grouped = two_level(lists, spherical=True, cells=20)
    there = TwoLevelAssigner(lists, lists, grouped.bounds, True, ON_CPU)
    np.testing.assert_array_equal(
        there.assign(vectors, 3), TwoLevelAssigner(lists, lists, there.bounds, True).assign(vectors, 3)
    )
    assert there.assign(vectors[:0], 3).shape == (0,)


@pytest.mark.parametrize("metric", [faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2], ids=["ip", "l2"])
@pytest.mark.parametrize("code", ["PQ16np", "PQ32x6np", "PQ4np", "PQ2x4np", "SQ8", "Flat"])
def test_codes_are_those_of_numpy_and_faiss(code: str, metric: int) -> None:
    vectors = centroids(3, ROWS, D)
    index = faiss.index_factory(D, f"IVF{NLIST},{code}", metric)
    inner = faiss.downcast_index(index)
    inner.cp.niter, inner.cp.min_points_per_centroid = 3, 1
    index.train(vectors)
    vectors[: ROWS // 2 : 2] = vectors[1 : ROWS // 2 : 2]
    batches = [VectorBatch(np.arange(ROWS), vectors)]
    numpy = encode_batches(index, batches, flat_assign(index))
    there = encode_batches(index, batches, flat_assign(index, ON_CPU), products=ON_CPU)
    np.testing.assert_array_equal(there.list_nos, numpy.list_nos)
    np.testing.assert_array_equal(there.codes, numpy.codes)


def test_entries_that_are_nearly_as_near_are_left_to_the_processor() -> None:
    books = np.zeros((2, 3, 2), np.float32)
    books[:, 1], books[:, 2] = [1, 0], [0, 1]
    vectors = np.array([[0.9, 0, 0.9, 0], [0.5, 1e-9, 0.9, 0], [0.9, 0, 0.5, 0.5]], np.float32)
    numbers, margins = ON_CPU.best_entries(books, vectors)
    assert numbers[0].tolist() == [1, 1]
    assert doubtful(books, vectors, margins).tolist() == [1, 2]


def spread_of_rounding(dim: int) -> NDArray[np.float64]:
    """Errors of half a squared distance by a product, over the square of both lengths together."""
    entries, vectors = centroids(4, 200, dim), centroids(5, 200, dim)
    products = vectors @ entries.T - 0.5 * np.einsum("ij,ij->i", entries, entries)
    wide, rows = entries.astype(np.float64), vectors.astype(np.float64)
    exact = rows @ wide.T - 0.5 * (wide * wide).sum(axis=1)
    lengths = np.linalg.norm(rows, axis=1)[:, None] + np.linalg.norm(wide, axis=1)
    return np.asarray(np.abs(products - exact) / lengths**2)


@pytest.mark.parametrize("dim", [2, 16, 256])
def test_the_bound_of_rounding_is_far_above_what_is_seen(dim: int) -> None:
    assert spread_of_rounding(dim).max() < 1e-7


def test_products_of_lower_precision_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(torch_products("cpu"), TorchProducts)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    with pytest.raises(UsageError, match="'high', and adding counts on 'highest'"):
        torch_products("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_lists_and_codes_of_a_gpu_are_those_of_the_processor() -> None:
    on_gpu = torch_products("cuda")
    vectors = centroids(6, 20_000, D)
    index = faiss.index_factory(D, f"IVF{NLIST},PQ16np", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    batches = [VectorBatch(np.arange(len(vectors)), vectors)]
    expected = encode_batches(index, batches, flat_assign(index))
    found = encode_batches(index, batches, flat_assign(index, on_gpu), products=on_gpu)
    np.testing.assert_array_equal(found.list_nos, expected.list_nos)
    np.testing.assert_array_equal(found.codes, expected.codes)
