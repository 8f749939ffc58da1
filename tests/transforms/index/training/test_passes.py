"""A pass moves centroids to the means of their rows, whoever summed them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.index.assignment import TwoLevelAssigner
from transforms.index.training import passes
from transforms.index.training.cells import CellRows
from transforms.index.training.clustering import kmeans, nearest
from transforms.index.training.figures import PASS_LISTS
from transforms.index.training.passes import ListSums, imbalance, joined, lists_near, look, move, sum_lists

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


def cells_of(seed: int = 0, spherical: bool = True) -> tuple[TwoLevelAssigner, CellRows]:
    """400 lists in 20 cells, and 8,000 rows of these."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((400, 16)).astype(np.float32)
    rows = centres[generator.integers(0, 400, 8000)] + 0.4 * generator.standard_normal((8000, 16), np.float32)
    parents = kmeans(rows, 20, spherical=spherical, seed=0)
    lists = kmeans(rows, 400, spherical=spherical, seed=1)
    of_list, of_row = (nearest(some, parents, spherical=spherical) for some in (lists, rows))
    bounds, edges = (np.append(0, np.cumsum(np.bincount(cell, minlength=20))) for cell in (of_list, of_row))
    order = np.argsort(of_row, kind="stable")
    assigner = TwoLevelAssigner(parents, lists[np.argsort(of_list, kind="stable")], bounds, spherical)
    return assigner, CellRows(rows[order], edges, order)


@METRICS
def test_nearly_every_row_of_a_pass_finds_the_nearest_of_all_lists(
    spherical: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigner, rows = cells_of(spherical=spherical)
    exact = sum_lists(rows.vectors, nearest(rows.vectors, assigner.centroids, spherical=spherical))
    monkeypatch.setattr(passes, "PASS_LISTS", 32)
    found = look(assigner, rows, 0)
    counts = np.zeros(400, np.int64)
    counts[found.lists] = found.counts

    assert counts.sum() == 8000
    assert np.abs(counts[exact.lists] - exact.counts).sum() < 0.1 * 8000  # a row that errs is seen twice


def test_threads_and_the_cells_beside_it_change_nothing_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_ROWS_AT_ONCE", 300)
    assigner, rows = cells_of()
    weights = np.random.default_rng(1).integers(1, 4, 8000)
    one, three = (look(assigner, rows, 0, workers, weights) for workers in (1, 3))
    middle = int(rows.bounds[8])
    parts = [
        look(assigner, CellRows(rows.vectors[some], bounds, rows.ids[some]), first, 1, weights[some])
        for some, bounds, first in (
            (slice(0, middle), rows.bounds[:9], 0),
            (slice(middle, 8000), rows.bounds[8:] - middle, 8),
        )
    ]
    assert all(np.array_equal(three.tensors[name], tensor) for name, tensor in one.tensors.items())
    np.testing.assert_allclose(joined(parts).sums, one.sums, atol=1e-4)
    assert np.array_equal(joined(parts).counts, one.counts)


def test_rows_of_a_cell_look_at_its_own_lists_first_and_at_all_where_these_are_few() -> None:
    assigner, _ = cells_of()
    near = lists_near(assigner, 3)
    own = np.arange(assigner.bounds[3], assigner.bounds[4])
    assert near.shape == (len(own), PASS_LISTS)
    assert (near == own[:, None]).any(axis=1).all()
    assert (np.diff(near, axis=1) > 0).all()
    few = TwoLevelAssigner(assigner.parents[:1], assigner.centroids[:50], np.array([0, 50]), True)
    assert np.array_equal(lists_near(few, 0), np.broadcast_to(np.arange(50), (50, 50)))


def test_rows_of_a_cell_without_lists_look_at_those_near_its_parent() -> None:
    assigner, rows = cells_of()
    bounds = assigner.bounds.copy()
    bounds[4:] = np.maximum(bounds[4:], bounds[5])  # cell 3 gets the lists of cell 4, too
    emptied = TwoLevelAssigner(assigner.parents, assigner.centroids, bounds, True)
    assert look(emptied, rows, 0).counts.sum() == 8000


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
