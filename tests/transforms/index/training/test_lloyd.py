"""Lloyd's algorithm in a cell is as good as faiss's, and no list holds many times its share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.index.training.clustering import kmeans, nearest
from transforms.index.training.lloyd import lloyd, nearest_of, sums_by_list

METRICS = pytest.mark.parametrize("spherical", [True, False], ids=["ip", "l2"])


def rows_of(rows: int = 3000, centres: int = 60, dim: int = 24) -> NDArray[np.float32]:
    """Clusters of which the largest has hundreds of times as many rows as the smallest."""
    generator = np.random.default_rng(3)
    places = generator.standard_normal((centres, dim)).astype(np.float32)
    share = generator.pareto(1.5, centres) + 0.05
    own = generator.choice(centres, rows, p=share / share.sum())
    return np.asarray(places[own] + 0.3 * generator.standard_normal((rows, dim), np.float32), np.float32)


def means_of(rows: NDArray[np.float32], lists: NDArray[np.int64], k: int) -> NDArray[np.float32]:
    occupied, counts, sums = sums_by_list(rows, lists)
    centroids = np.full((k, rows.shape[1]), 100, np.float32)
    centroids[occupied] = sums / counts[:, None]
    return centroids


def error(rows: NDArray[np.float32], centroids: NDArray[np.float32]) -> float:
    return float(((rows - centroids[nearest(rows, centroids, spherical=False)]) ** 2).sum(axis=1).mean())


@METRICS
def test_it_is_as_good_as_k_means_of_faiss(spherical: bool) -> None:
    rows = rows_of()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    own = means_of(rows, lloyd(rows, 64, spherical=spherical, seed=1), 64)
    assert error(rows, own) <= 1.03 * error(rows, kmeans(rows, 64, spherical=spherical, seed=1))


@METRICS
def test_the_same_seed_gives_the_same_lists(spherical: bool) -> None:
    one, again, other = (lloyd(rows_of(), 50, spherical=spherical, seed=seed) for seed in (4, 4, 5))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@given(st.integers(1, 40), st.integers(0, 60), st.booleans())
def test_any_rows_get_one_of_the_lists(k: int, more: int, equal: bool) -> None:
    rows = np.ones((k + more, 4), np.float32) if equal else rows_of(k + more, 8, 4)
    lists = lloyd(rows, k, spherical=False, seed=0)
    assert lists.shape == (k + more,)
    assert 0 <= lists.min() <= lists.max() < k


@METRICS
def test_the_nearest_centroid_is_that_of_faiss(spherical: bool) -> None:
    rows, centroids = rows_of(9000), rows_of(70)
    assert np.array_equal(
        nearest_of(rows, centroids, spherical=spherical), nearest(rows, centroids, spherical=spherical)
    )


def test_rows_are_summed_list_by_list_with_their_weights() -> None:
    rows, lists = rows_of(500, dim=3), np.random.default_rng(0).integers(2, 9, 500)
    weights = np.random.default_rng(1).integers(1, 5, 500)
    occupied, counts, sums = sums_by_list(rows, lists, weights)
    assert occupied.tolist() == list(range(2, 9))
    assert counts.tolist() == np.bincount(lists)[2:].tolist()
    expected = np.stack([(rows * weights[:, None])[lists == number].sum(axis=0) for number in occupied])
    np.testing.assert_allclose(sums, expected, rtol=1e-4)
    assert sums_by_list(rows[:0], lists[:0])[2].shape == (0, 3)


@pytest.mark.parametrize("last", [255, 256, 65_535, 65_536])
def test_rows_of_the_last_of_many_lists_are_its_own(last: int) -> None:
    occupied, counts, sums = sums_by_list(np.array([[1], [2], [4]], np.float32), np.array([last, 0, last]))
    assert (occupied.tolist(), counts.tolist(), sums.tolist()) == ([0, last], [1, 2], [[2], [5]])
