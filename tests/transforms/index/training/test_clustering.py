"""K-means of some vectors, and how centroids are shared out among cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.index.assignment import TwoLevelAssigner
from transforms.index.training.clustering import kmeans, nearest, share_out
from transforms.index.training.figures import parents_of

METRICS = pytest.mark.parametrize("spherical", [True, False], ids=["ip", "l2"])


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    generator = np.random.default_rng(3)
    centres = generator.standard_normal((400, 16)).astype(np.float32)
    found = centres[generator.integers(0, 400, 20_000)] + 0.4 * generator.standard_normal((20_000, 16), np.float32)
    unit: NDArray[np.float32] = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


@METRICS
def test_the_same_seed_gives_the_same_centroids(vectors: NDArray[np.float32], spherical: bool) -> None:
    one, other = (kmeans(vectors, 100, spherical=spherical, seed=5) for _ in range(2))
    assert one.tobytes() == other.tobytes()
    assert one.tobytes() != kmeans(vectors, 100, spherical=spherical, seed=6).tobytes()


def test_spherical_centroids_have_length_one(vectors: NDArray[np.float32]) -> None:
    for lists in (1, 20):
        centroids = kmeans(vectors, lists, spherical=True, seed=0)
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any), st.data())
def test_centroids_are_shared_out_by_rows(rows: list[int], data: st.DataObject) -> None:
    counts = np.array(rows)
    wanted = data.draw(st.integers(1, int(counts.sum())))
    given_out = share_out(counts, wanted)
    assert given_out.sum() == wanted
    assert (given_out <= counts).all()
    if wanted >= np.count_nonzero(counts):
        assert (given_out[counts > 0] >= 1).all()


@METRICS
def test_looking_into_every_cell_is_exact_and_into_a_few_nearly_so(
    vectors: NDArray[np.float32], spherical: bool
) -> None:
    cells = parents_of(400)
    parents = kmeans(vectors, cells, spherical=spherical, seed=0)
    unordered = kmeans(vectors, 400, spherical=spherical, seed=1)
    cell = nearest(unordered, parents, spherical=spherical)
    centroids = unordered[np.argsort(cell, kind="stable")]
    bounds = np.concatenate(([0], np.cumsum(np.bincount(cell, minlength=cells))))
    assigner = TwoLevelAssigner(parents, centroids, bounds, spherical)
    truth = nearest(vectors, centroids, spherical=spherical)

    assert (assigner.assign(vectors, cells) == truth).mean() > 0.9999  # another product rounds otherwise at ties
    agreement = [(assigner.assign(vectors, probes) == truth).mean() for probes in (1, 2, 4, 8)]
    assert agreement == sorted(agreement)
    assert agreement[-1] > 0.95
