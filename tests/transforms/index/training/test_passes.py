"""A pass moves centroids to the means of their rows, whoever summed them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.index.training.clustering import nearest
from transforms.index.training.passes import ListSums, imbalance, move, sum_lists

METRICS = pytest.mark.parametrize("spherical", [True, False], ids=["ip", "l2"])


def rows_of(seed: int, rows: int = 200) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, 6)).astype(np.float32)


def test_centroids_move_to_the_mean_of_their_rows_and_stay_without_any() -> None:
    vectors, centroids = rows_of(0), rows_of(1, 9)
    lists = np.arange(200) % 8
    moved = move([sum_lists(vectors, lists)], centroids, spherical=False)

    np.testing.assert_allclose(moved.centroids[3], vectors[lists == 3].mean(axis=0), atol=1e-6)
    assert np.array_equal(moved.centroids[8], centroids[8])
    assert moved.counts.tolist() == [25] * 8 + [0]


def test_spherical_centroids_keep_their_length() -> None:
    moved = move([sum_lists(rows_of(0), np.arange(200) % 8)], rows_of(1, 8), spherical=True)
    np.testing.assert_allclose(np.linalg.norm(moved.centroids, axis=1), 1, atol=1e-6)


@METRICS
def test_the_objective_is_that_of_the_rows_and_their_moved_centroids(spherical: bool) -> None:
    vectors, centroids = rows_of(0), rows_of(1, 8)
    lists = nearest(vectors, centroids, spherical=spherical)
    moved = move([sum_lists(vectors, lists)], centroids, spherical=spherical)
    own = moved.centroids[lists]
    truth = (vectors * own).sum(axis=1).mean() if spherical else ((vectors - own) ** 2).sum(axis=1).mean()

    assert moved.objective == pytest.approx(float(truth), rel=1e-5)


@pytest.mark.gate
@given(st.lists(st.integers(0, 200), max_size=5))
def test_sums_of_any_groups_make_the_same_pass(cuts: list[int]) -> None:
    vectors, centroids = rows_of(0), rows_of(1, 8)
    lists = np.random.default_rng(2).integers(0, 8, 200)
    edges = [0, *sorted(cuts), 200]
    parts = [sum_lists(vectors[a:b], lists[a:b]) for a, b in itertools.pairwise(edges)]
    whole, cut = (move(sums, centroids, spherical=True) for sums in ([sum_lists(vectors, lists)], parts))

    np.testing.assert_allclose(cut.centroids, whole.centroids, atol=1e-6)
    assert np.array_equal(cut.counts, whole.counts)


@METRICS
def test_a_row_counts_as_often_as_its_weight_says(spherical: bool) -> None:
    vectors, centroids = rows_of(0), rows_of(1, 8)
    lists, weights = np.random.default_rng(2).integers(0, 7, 200), np.random.default_rng(3).integers(1, 9, 200)
    weighted = move([sum_lists(vectors, lists, weights=weights)], centroids, spherical=spherical)
    again, lists_again = np.repeat(vectors, weights, axis=0), np.repeat(lists, weights)
    repeated = move([sum_lists(again, lists_again)], centroids, spherical=spherical)

    np.testing.assert_allclose(weighted.centroids, repeated.centroids, atol=1e-6)
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-5)
    assert weighted.counts.tolist() == repeated.counts.tolist()
    assert weighted.distinct.tolist() == np.bincount(lists, minlength=8).tolist()


def test_what_an_older_version_left_of_a_pass_is_taken() -> None:
    sums = sum_lists(rows_of(0), np.arange(200) % 8)
    before = {name: tensor for name, tensor in sums.tensors.items() if name != "distinct"}
    assert ListSums.of(before).distinct.tolist() == sums.counts.tolist()


def test_sums_survive_as_tensors() -> None:
    sums = sum_lists(rows_of(0), np.arange(200) % 8)
    again = ListSums.of(sums.tensors)
    assert all(np.array_equal(again.tensors[name], tensor) for name, tensor in sums.tensors.items())


def test_imbalance_is_one_when_all_lists_are_alike() -> None:
    assert imbalance(np.array([5, 5, 5])) == 1
    assert imbalance(np.array([15, 0, 0])) == 3
