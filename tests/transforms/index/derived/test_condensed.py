"""Condensed vectors are centres of clusters, each with the row that stands for it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.index.derived.condensed import condensed
from transforms.index.training.clustering import kmeans

Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.float64]) -> Vectors:
    made: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def plain(vectors: Vectors, centres: Vectors, *, spherical: bool) -> NDArray[np.int64]:
    """For each centre the nearest of the rows that are nearest to it, one after the other."""
    exact, there = vectors.astype(np.float64), centres.astype(np.float64)
    scores = exact @ there.T if spherical else -((exact[:, None] - there[None]) ** 2).sum(axis=2)
    owners = scores.argmax(axis=1)
    places = []
    for centre in range(len(centres)):
        mine = np.flatnonzero(owners == centre)
        places.append(int(mine[scores[mine, centre].argmax()]))
    return np.array(places)


@pytest.mark.parametrize("spherical", [True, False])
def test_each_centre_has_the_nearest_row_of_its_cluster(*, spherical: bool) -> None:
    vectors = np.random.default_rng(3).standard_normal((400, 10))
    rows = unit(vectors) if spherical else vectors.astype(np.float32)
    centres, places = condensed(rows, 30, spherical=spherical, seed=5)
    expected = kmeans(rows, 30, spherical=spherical, seed=5)
    nearest = plain(rows, expected, spherical=spherical)
    order = np.argsort(nearest)
    assert places.tolist() == nearest[order].tolist() and len(set(places.tolist())) == 30
    assert (centres == expected[order]).all()


def test_clusters_that_are_far_apart_become_their_means() -> None:
    rng = np.random.default_rng(4)
    corners = np.array([[10.0, 0.0], [0.0, 10.0]])
    rows = np.concatenate([corner + rng.standard_normal((50, 2)) for corner in corners]).astype(np.float32)
    centres, places = condensed(rows, 2, spherical=False, seed=0)
    means = np.array([rows[:50].mean(axis=0), rows[50:].mean(axis=0)])
    np.testing.assert_allclose(centres, means, rtol=1e-5)
    for place, mine, mean in zip(places, (rows[:50], rows[50:]), means, strict=True):
        assert ((rows[place] - mean) ** 2).sum() == pytest.approx(((mine - mean) ** 2).sum(axis=1).min())
    around = unit(rows.astype(np.float64))
    centres, _ = condensed(around, 2, spherical=True, seed=0)
    wanted = unit(np.array([around[:50].mean(axis=0), around[50:].mean(axis=0)]).astype(np.float64))
    np.testing.assert_allclose(centres, wanted, atol=1e-6)


def test_as_many_as_there_are_stay_as_they_are() -> None:
    rows = unit(np.random.default_rng(5).standard_normal((20, 4)))
    centres, places = condensed(rows, 20, spherical=True, seed=0)
    assert (centres == rows).all() and places.tolist() == list(range(20))


def test_rows_that_are_equal_are_each_taken_once() -> None:
    rows = np.repeat(unit(np.random.default_rng(6).standard_normal((3, 4))), 10, axis=0)
    for k in (2, 3, 7, 29):
        centres, places = condensed(rows, k, spherical=True, seed=1)
        assert centres.shape == (k, 4) and len(set(places.tolist())) == k
        assert (np.diff(places) > 0).all()


def test_the_same_seed_has_the_same_centres() -> None:
    rows = unit(np.random.default_rng(7).standard_normal((300, 8)))
    first, again, other = (condensed(rows, 20, spherical=True, seed=seed)[0] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_rows_that_lie_opposite_each_other_are_represented_by_one_of_them() -> None:
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    centres, places = condensed(vectors, 1, spherical=True, seed=0)
    assert centres.tolist() == [vectors[places[0]].tolist()]
