"""Lists without rows are filled from those with many, and are left out of the way where there are too few."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.index.training.clustering import nearest
from transforms.index.training.filling import divide, fill, settle
from transforms.index.training.passes import Moved

METRICS = pytest.mark.parametrize("spherical", [True, False], ids=["ip", "l2"])


def lists_of(counts: list[int], dim: int = 8, spherical: bool = False) -> Moved:
    centroids = np.random.default_rng(0).standard_normal((len(counts), dim)).astype(np.float32)
    if spherical:
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    return Moved(centroids, np.array(counts), 0.5, np.array(counts))


@METRICS
def test_the_list_with_the_most_rows_is_split_in_its_own_cell(spherical: bool) -> None:
    lists = lists_of([5, 0, 9, 4, 3, 2], spherical=spherical)
    bounds = np.array([0, 2, 4, 6])
    done, cells = fill(lists, bounds, copies=True, spherical=spherical)

    assert cells.tolist() == [0, 1, 4, 6]
    assert done.counts.tolist() == [5, 5, 4, 4, 3, 2]
    np.testing.assert_allclose(done.centroids[1:3], lists.centroids[[2, 2]], rtol=2e-3)
    rows = lists.centroids[2] + 0.1 * np.random.default_rng(1).standard_normal((200, 8)).astype(np.float32)
    shares = np.bincount(nearest(rows, done.centroids[1:3], spherical=spherical), minlength=2)
    assert shares.min() > 20


@METRICS
def test_many_parts_of_one_list_all_get_rows(spherical: bool) -> None:
    lists = lists_of([4000, *[0] * 9], spherical=spherical)
    done, _ = fill(lists, np.array([0, 10]), copies=True, spherical=spherical)
    rows = lists.centroids[0] + 0.1 * np.random.default_rng(1).standard_normal((4000, 8)).astype(np.float32)
    assert len(np.unique(done.centroids, axis=0)) == 10
    assert np.bincount(nearest(rows, done.centroids, spherical=spherical), minlength=10).min() > 20


@METRICS
def test_a_copy_of_another_centroid_is_a_list_to_fill_though_no_rows_are_equal(spherical: bool) -> None:
    lists = lists_of([7] * 300, spherical=spherical)
    lists.centroids[200] = lists.centroids[10]
    lists.counts[200] = 0
    done, _ = fill(lists, np.array([0, 300]), copies=False, spherical=spherical)
    assert len(np.unique(done.centroids, axis=0)) == 300


def test_without_copies_lists_that_are_empty_by_chance_stay() -> None:
    lists = lists_of([*[7] * 99, 0])
    bounds = np.array([0, 50, 100])
    assert fill(lists, bounds, copies=False, spherical=False) == (lists, bounds)


@METRICS
def test_lists_that_no_row_would_choose_among_all_are_filled(spherical: bool) -> None:
    rows = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    centroids = rows[:64] / np.linalg.norm(rows[:64], axis=1, keepdims=True)
    centroids[40:] = 1.001 * centroids[:24] if not spherical else centroids[:24]
    done = settle(centroids, rows, spherical=spherical)
    assert (np.bincount(nearest(rows, done, spherical=spherical), minlength=64) > 0).all()
    assert settle(centroids, rows[:100], spherical=spherical) is centroids


@METRICS
def test_what_cannot_be_filled_is_behind_all_others_for_queries_near_these(spherical: bool) -> None:
    lists = lists_of([1, 1, 1, 0, 0, 0, 0], spherical=spherical)
    done, bounds = fill(lists, np.array([0, 3, 7]), copies=True, spherical=spherical)
    used = done.counts > 0
    assert (used.sum(), bounds.tolist()) == (3, [0, 3, 7])
    assert len(np.unique(done.centroids, axis=0)) == 7
    for query in lists.centroids[:3] + 0.02:
        scores = done.centroids @ query if spherical else -((done.centroids - query) ** 2).sum(axis=1)
        assert scores[used].max() > scores[~used].max()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 9), st.booleans())
def test_no_rows_are_lost_and_no_centroids_are_equal(counts: list[int], cells: int, dim: int, spherical: bool) -> None:
    lists = lists_of(counts, dim, spherical)
    bounds = np.linspace(0, len(counts), cells + 1).astype(np.int64)
    done, after = fill(lists, bounds, copies=True, spherical=spherical)
    assert (done.counts.sum(), done.distinct.sum()) == (lists.counts.sum(), lists.distinct.sum())
    assert (after[0], after[-1], len(after)) == (0, len(counts), cells + 1)
    assert (np.diff(after) >= 0).all()
    assert np.isfinite(done.centroids).all()
    if dim > 2 and any(counts):
        assert len(np.unique(done.centroids, axis=0)) == len(counts)
        if lists.counts.sum() >= len(counts):
            assert (done.counts == 0).mean() <= 0.01


def test_without_any_row_nothing_changes() -> None:
    lists: Moved = lists_of([0, 0])
    bounds: NDArray[np.int64] = np.array([0, 2])
    assert fill(lists, bounds, copies=True, spherical=False)[0] is lists


@METRICS
def test_a_list_with_several_times_its_share_is_divided_in_the_place_of_the_smallest(spherical: bool) -> None:
    lists = lists_of([40, 2, 200, 30, 3, 40, 40, 45], spherical=spherical)
    done, bounds = divide(lists, np.array([0, 2, 5, 8]), spherical=spherical)

    assert bounds.tolist() == [0, 1, 5, 8]
    assert done.counts.tolist() == [40, 100, 100, 30, 3, 40, 40, 45]
    rows = lists.centroids[2] + 0.1 * np.random.default_rng(1).standard_normal((200, 8)).astype(np.float32)
    assert np.bincount(nearest(rows, done.centroids[1:3], spherical=spherical), minlength=2).min() > 20


@pytest.mark.parametrize(
    "counts",
    [[40, 40, 60, 50], [400, 90, 90, 90], [9, 1, 0, 0], [0, 0, 0, 0]],
    ids=["alike", "no small one", "few rows", "no row"],
)
def test_lists_stay_where_none_is_large_or_none_small_or_rows_are_few(counts: list[int]) -> None:
    lists, bounds = lists_of(counts), np.array([0, 2, 4])
    assert divide(lists, bounds, spherical=False) == (lists, bounds)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.data())
def test_dividing_keeps_the_number_of_lists_and_never_gives_away_a_large_one(
    counts: list[int], data: st.DataObject
) -> None:
    lists = lists_of(counts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(counts)), max_size=4)))
    done, bounds = divide(lists, np.array([0, *cuts, len(counts)]), spherical=False)

    assert done.centroids.shape == lists.centroids.shape
    assert (bounds[0], bounds[-1], len(bounds)) == (0, len(counts), len(cuts) + 2)
    gone = sum(counts) - int(done.counts.sum())
    assert 0 <= gone <= 0.3 * sum(counts)
    assert done.counts.max() <= max(counts)


def test_copies_of_one_row_are_not_divided() -> None:
    lists = lists_of([40, 1, 30, 900])
    lists = replace(lists, distinct=np.array([40, 1, 30, 1]))
    bounds = np.array([0, 4])
    assert divide(lists, bounds, spherical=False) == (lists, bounds)
