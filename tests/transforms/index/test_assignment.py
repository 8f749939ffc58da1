"""Assignment: the nearest list, whatever else is in the batch."""

import time
from itertools import pairwise

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tests.examples import costly
from transforms.index.assignment import FlatAssigner, TwoLevelAssigner

CELLS, D = 12, 64


def centroids(seed: int, rows: int = 300, d: int = D) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, d), np.float32)


def two_level(lists: NDArray[np.float32], *, spherical: bool, cells: int = CELLS) -> TwoLevelAssigner:
    bounds = np.linspace(0, len(lists), cells + 1).astype(np.int64)
    parents = np.array([lists[start:stop].mean(axis=0) for start, stop in pairwise(bounds)])
    return TwoLevelAssigner(parents.astype(np.float32), lists, bounds, spherical)


def exact(vectors: NDArray[np.float32], lists: NDArray[np.float32], *, spherical: bool) -> NDArray[np.int64]:
    rows, wide = vectors.astype(np.float64), lists.astype(np.float64)
    scores = rows @ wide.T - (0 if spherical else 0.5 * (wide * wide).sum(axis=1))
    best: NDArray[np.int64] = scores.argmax(axis=1)
    return best


@pytest.mark.parametrize("spherical", [True, False])
def test_all_cells_and_flat_find_the_exactly_nearest(spherical: bool) -> None:
    lists, vectors = centroids(0), centroids(1, 3000)
    expected = exact(vectors, lists, spherical=spherical)
    np.testing.assert_array_equal(FlatAssigner(lists, spherical).assign(vectors), expected)
    np.testing.assert_array_equal(two_level(lists, spherical=spherical).assign(vectors, CELLS), expected)
    np.testing.assert_array_equal(two_level(lists, spherical=spherical).assign(vectors, 10 * CELLS), expected)


@pytest.mark.parametrize("spherical", [True, False])
def test_some_cells_find_the_nearest_in_them(spherical: bool) -> None:
    lists, vectors, assigner = centroids(2), centroids(3, 500), two_level(centroids(2), spherical=spherical)
    ranking = faiss.IndexFlatIP(D) if spherical else faiss.IndexFlatL2(D)
    ranking.add(assigner.parents)
    _, cells = ranking.search(vectors, 3)
    for vector, near, found in zip(vectors, cells, assigner.assign(vectors, 3), strict=True):
        among = np.concatenate([np.arange(assigner.bounds[cell], assigner.bounds[cell + 1]) for cell in np.sort(near)])
        assert found == among[exact(vector[None], lists[among], spherical=spherical)[0]]


@pytest.mark.parametrize("spherical", [True, False])
def test_differences_below_rounding_are_decided_exactly(spherical: bool) -> None:
    """Pairs of lists that differ by less than a float32 product can tell, in other cells: the nearer one is found."""
    rng = np.random.default_rng(4)
    half = centroids(5, 40, 256) + 3
    lists = np.concatenate([half, np.nextafter(half, np.where(rng.random(half.shape) < 0.5, 9, -9).astype(np.float32))])
    lists = lists.astype(np.float32)
    vectors = half[rng.integers(0, 40, 2000)] + 0.1 * centroids(6, 2000, 256)
    expected = exact(vectors, lists, spherical=spherical)
    products = vectors @ lists.T - (0 if spherical else 0.5 * np.einsum("ij,ij->i", lists, lists))
    assert (products.argmax(axis=1) != expected).any()
    np.testing.assert_array_equal(FlatAssigner(lists, spherical).assign(vectors), expected)
    np.testing.assert_array_equal(two_level(lists, spherical=spherical, cells=8).assign(vectors, 8), expected)


def blanks(noise: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows a fifth of which are (nearly) equal, and lists a fifth of which k-means has split from one of them."""
    rng = np.random.default_rng(20)
    lists, vectors = centroids(21, 4096), centroids(22, 50_000)
    blank = 4 * centroids(23, 1)
    split = np.where(np.arange(D) % 2, 1 + 1 / 1024, 1 - 1 / 1024).astype(np.float32) ** rng.normal(0, 2, (819, 1))
    lists[rng.choice(4096, 819, replace=False)] = blank * split
    alike = rng.choice(50_000, 10_000, replace=False)
    vectors[alike] = blank + noise * centroids(24, 10_000)
    return lists, vectors


@pytest.mark.parametrize("noise", [0, 1e-6], ids=["equal", "nearly_equal"])
@pytest.mark.parametrize("spherical", [True, False])
def test_many_rows_between_lists_that_are_nearly_equal_take_hardly_longer(*, spherical: bool, noise: float) -> None:
    lists, vectors = blanks(noise)
    with threadpool_limits(1):
        flat, grouped = FlatAssigner(lists, spherical), two_level(lists, spherical=spherical, cells=64)
        seconds = []
        for rows in (centroids(22, 50_000), vectors):
            started = time.thread_time()
            found = flat.assign(rows)
            seconds.append(time.thread_time() - started)
        among = grouped.assign(vectors[:8192], 64)
    assert seconds[1] < 3 * seconds[0]
    np.testing.assert_array_equal(found[:8192], exact(vectors[:8192], lists, spherical=spherical))
    np.testing.assert_array_equal(among, found[:8192])


def test_of_equal_lists_the_lower_is_taken() -> None:
    lists = np.concatenate([centroids(7)] * 3)
    found = two_level(lists, spherical=True).assign(centroids(8, 900), CELLS)
    assert found.max() < 300
    np.testing.assert_array_equal(FlatAssigner(lists, spherical=True).assign(centroids(8, 900)), found)


def test_cells_without_lists_are_not_looked_into() -> None:
    lists = centroids(9, 30)
    parents = np.concatenate([5 * centroids(10, 4), lists[:2]])
    assigner = TwoLevelAssigner(parents, lists, np.array([0, 0, 0, 0, 0, 15, 30]), spherical=False)
    found = assigner.assign(centroids(11, 200), 1)
    assert found.min() >= 0 and found.max() < 30


@costly
@given(
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 6000), max_size=4),
    probes=st.integers(1, 6),
    spherical=st.booleans(),
)
def test_neither_order_nor_company_changes_a_list(seed: int, cuts: list[int], probes: int, *, spherical: bool) -> None:
    vectors, assigner = centroids(12, 6000), two_level(centroids(13), spherical=spherical)
    expected = assigner.assign(vectors, probes)
    order = np.random.default_rng(seed).permutation(len(vectors))
    parts = [assigner.assign(part, probes) for part in np.split(vectors[order], sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), expected[order])


def test_no_vectors_have_no_lists() -> None:
    assert two_level(centroids(14), spherical=True).assign(centroids(0, 0), 2).shape == (0,)
