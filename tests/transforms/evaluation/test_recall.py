"""Recall of found neighbours: by ids, by scores where rows tie, and what the worst queries have."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.examples import cheap
from transforms.errors import UsageError
from transforms.evaluation.recall import Recall, Ties, by_query, found_shares
from transforms.records import Metric


def shares(found: list[list[int]], exact: list[list[int]], k: int, among: int | None = None) -> list[float]:
    return list(found_shares(np.array(found), np.array(exact), k, among=among))


def test_recall_is_the_share_of_the_k_nearest_among_k_found() -> None:
    assert shares([[1, 2, 9], [7, 5, 4]], [[2, 1, 3], [4, 5, 6]], 2) == [1.0, 0.5]


def test_the_order_of_the_found_does_not_matter() -> None:
    assert shares([[3, 2, 1]], [[1, 2, 3]], 3) == [1.0]


def test_exact_neighbours_may_be_looked_for_among_more() -> None:
    assert shares([[9, 8, 1, 2]], [[1, 2, 3]], 2) == [0.0]
    assert shares([[9, 8, 1, 2]], [[1, 2, 3]], 2, among=4) == [1.0]


def test_rows_that_were_not_found_are_none() -> None:
    assert shares([[1, -1, -1]], [[1, 2, 3]], 3) == [pytest.approx(1 / 3)]


def test_where_fewer_rows_are_there_recall_is_of_these() -> None:
    assert shares([[1, 2, -1]], [[1, 2, -1]], 3) == [1.0]


def test_a_row_found_twice_counts_once() -> None:
    assert shares([[1, 1]], [[1, 2]], 2) == [0.5]


def test_without_a_neighbour_there_is_no_recall() -> None:
    (share,) = shares([[-1, -1]], [[-1, -1]], 2)
    assert math.isnan(share)


def test_of_no_query_there_is_no_share() -> None:
    assert found_shares(np.empty((0, 3), np.int64), np.empty((0, 3), np.int64), 2).tolist() == []


@pytest.mark.parametrize(("metric", "sign"), [("ip", 1), ("l2", -1), ("l1", -1)])
def test_a_row_as_near_as_the_last_exact_one_is_right(metric: Metric, sign: int) -> None:
    found, exact = np.array([[1, 8, 9]]), np.array([[1, 2, 3]])
    scores = sign * np.array([[0.9, 0.5, 0.4]], np.float32)
    ties = Ties(scores, sign * np.array([[0.9, 0.5, 0.5]], np.float32), metric)
    assert found_shares(found, exact, 3, ties=ties).tolist() == [pytest.approx(2 / 3)]


def test_scores_may_differ_by_the_tolerance() -> None:
    found, exact = np.array([[8]]), np.array([[1]])
    ties = Ties(np.array([[0.5 - 1e-5]]), np.array([[0.5]]), tolerance=1e-4)
    assert found_shares(found, exact, 1, ties=ties).tolist() == [1.0]
    assert found_shares(found, exact, 1, ties=Ties(ties.found, ties.exact)).tolist() == [0.0]


def test_of_more_equal_rows_than_are_looked_for_no_share_is_above_one() -> None:
    ties = Ties(np.ones((1, 4)), np.ones((1, 4)))
    found, exact = np.array([[6, 7, 8, 9]]), np.array([[1, 2, 3, 4]])
    assert found_shares(found, exact, 2, among=4, ties=ties).tolist() == [1.0]


def test_an_exact_neighbour_is_right_whatever_its_score() -> None:
    ties = Ties(np.array([[0.1]]), np.array([[0.5]]))
    assert found_shares(np.array([[1]]), np.array([[1]]), 1, ties=ties).tolist() == [1.0]


def test_missing_rows_have_no_score_that_counts() -> None:
    ties = Ties(np.array([[0.9, 9.0]]), np.array([[0.9, -9.0]]))
    assert found_shares(np.array([[1, -1]]), np.array([[1, -1]]), 2, ties=ties).tolist() == [1.0]
    ties = Ties(np.array([[0.1, 9.0]]), np.array([[0.9, -9.0]]))
    assert found_shares(np.array([[5, -1]]), np.array([[1, -1]]), 2, ties=ties).tolist() == [0.0]


@st.composite
def lookings(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Found and exact ids, and the score of each id."""
    queries, width = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = rng.integers(-1, 12, (queries, width))
    scores = rng.integers(0, 5, 12)
    exact = np.tile(np.argsort(-scores, kind="stable"), (queries, 1))
    exact[:, draw(st.integers(1, 12)) :] = -1
    return found, exact, scores


@cheap
@given(lookings(), st.data())
def test_shares_are_those_of_going_through_all_rows(
    looking: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], data: st.DataObject
) -> None:
    found, exact, scores = looking
    k = data.draw(st.integers(1, exact.shape[1]))
    among = data.draw(st.integers(1, found.shape[1]))
    ties = Ties(scores[found].astype(float), scores[exact].astype(float)) if data.draw(st.booleans()) else None
    expected = []
    for seen, near in zip(found[:, :among].tolist(), exact[:, :k].tolist(), strict=True):
        wanted = set(near) - {-1}
        edge = min(scores[row] for row in wanted)
        right = {row for row in set(seen) - {-1} if row in wanted or (ties and scores[row] >= edge)}
        expected.append(min(len(right), len(wanted)) / len(wanted))
    assert found_shares(found, exact, k, among=among, ties=ties).tolist() == expected


def test_recall_says_how_many_queries_reach_what_and_what_the_worst_have() -> None:
    values = np.concatenate([[0.0, 0.2], np.full(8, 0.5), np.full(10, 0.9), np.full(20, 1.0)])
    recall = Recall.of(np.random.default_rng(0).permutation(values))
    assert recall.mean.value == pytest.approx(values.mean())
    assert (recall.reach_half.value, recall.reach_half.count) == (0.95, 40)
    assert recall.reach_nine_tenths.value == 0.75
    assert recall.p5 == pytest.approx(np.percentile(values, 5))
    assert recall.worst == pytest.approx(0.1)  # of two: 5 % of 40
    assert recall.reach_nine_tenths.low < 0.75 < recall.reach_nine_tenths.high


@pytest.mark.parametrize(("queries", "worst"), [(1, 1), (20, 1), (21, 2), (140, 7)])
def test_the_worst_are_five_percent_rounded_up(queries: int, worst: int) -> None:
    values = np.ones(queries)
    values[:worst] = 0
    assert Recall.of(values).worst == 0
    values[worst - 1] = 1
    assert Recall.of(values).worst == pytest.approx(1 / worst)


def test_nine_of_ten_reach_nine_tenths() -> None:
    for k in (10, 20, 30, 100):
        found = np.arange(k)[None].copy()
        found[:, : k // 10] = 1000 + np.arange(k // 10)
        assert Recall.of(found_shares(found, np.arange(k)[None], k)).reach_nine_tenths.value == 1


def test_queries_without_neighbours_count_nowhere() -> None:
    recall = Recall.of(np.array([np.nan, 1.0, 0.5]))
    assert (recall.mean.value, recall.mean.count, recall.reach_nine_tenths.value) == (0.75, 2, 0.5)


def test_of_no_query_all_figures_are_nan() -> None:
    recall = Recall.of(np.array([np.nan]))
    assert np.isnan([recall.mean.value, recall.reach_half.value, recall.p5, recall.worst]).all()


def test_rows_that_lie_query_after_query_are_laid_beside_each_other() -> None:
    laid = by_query(np.array([2, 0, 3]), np.array([0.5, 0.25, 3, 2, 1], np.float32), 2, missing=-np.inf)
    assert laid.tolist() == [[0.5, 0.25], [-np.inf, -np.inf], [3, 2]]
    assert laid.dtype == np.float32


def test_what_does_not_belong_together_is_refused() -> None:
    rows = np.zeros((2, 3), np.int64)
    with pytest.raises(UsageError, match="2 queries were asked, and 1 have"):
        found_shares(rows, rows[:1], 1)
    with pytest.raises(UsageError, match="'found' has 3 rows a query, of which 10"):
        found_shares(rows, rows, 3, among=10)
    with pytest.raises(UsageError, match="'exact' has 3 neighbours a query, of which 4"):
        found_shares(rows, rows, 4, among=3)
    with pytest.raises(UsageError, match="0 neighbours a query"):
        found_shares(rows, rows, 0, among=3)
    with pytest.raises(UsageError, match="give each id its score"):
        found_shares(rows, rows, 3, ties=Ties(np.zeros((2, 2)), np.zeros((2, 3))))
