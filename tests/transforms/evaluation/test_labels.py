"""Labels that neighbours vote for, and how often they are right: by hand, and as scikit-learn has them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import UsageError
from transforms.evaluation.labels import Label, Labelled, voted

NAMES = ["ant", "bee", "cat", "dog"]


def test_most_votes_win() -> None:
    assert voted([["cat", "dog", "dog"], ["cat", "cat", "dog"]]) == ["dog", "cat"]


def test_of_equally_many_votes_the_first_label_when_sorted_wins() -> None:
    assert voted([["dog", "cat", "dog", "cat"]]) == ["cat"]
    assert voted([[10, 9]]) == [9]


def test_the_first_k_vote() -> None:
    assert voted([["dog", "cat", "cat"]], k=1) == ["dog"]


def test_as_many_vote_as_are_there_and_without_any_there_is_no_label() -> None:
    assert voted([["dog"], [], ["cat", "dog", "dog"]], k=3) == ["dog", None, "dog"]
    assert voted([[], []]) == [None, None]
    assert voted([]) == []


def test_a_neighbour_without_a_label_has_no_vote() -> None:
    assert voted([[None, None, "dog"], [None]], k=3) == ["dog", None]
    assert voted([[None, "dog"]], k=1) == [None]


def test_near_votes_weigh_more() -> None:
    assert voted([["dog", "cat", "cat"]], distances=[[1.0, 4.0, 4.0]]) == ["dog"]
    assert voted([["dog", "cat", "cat"]], distances=[[1.0, 1.5, 1.5]]) == ["cat"]


def test_beside_a_neighbour_without_distance_no_other_votes() -> None:
    assert voted([["dog", "cat", "cat"], ["dog", "cat", "cat"]], distances=[[0.0, 1e-9, 1e-9], [1.0, 1.0, 1.0]]) == [
        "dog",
        "cat",
    ]


@st.composite
def grounds(draw: st.DrawFn) -> tuple[list[list[int]], list[str], list[list[int]], int]:
    """Points with labels, queries, and how many neighbours are asked."""
    point = st.lists(st.integers(0, 4), min_size=2, max_size=2)
    points = draw(st.lists(point, min_size=1, max_size=20))
    labels = draw(st.lists(st.sampled_from(NAMES), min_size=len(points), max_size=len(points)))
    return points, labels, draw(st.lists(point, min_size=1, max_size=6)), draw(st.integers(1, len(points)))


@given(grounds())
def test_votes_are_those_of_scikit_learn(
    neighbors: Any, ground: tuple[list[list[int]], list[str], list[list[int]], int]
) -> None:
    points, labels, queries, k = ground
    classifier = neighbors.KNeighborsClassifier(k, weights="uniform", algorithm="kd_tree").fit(points, labels)
    near = classifier.kneighbors(queries, return_distance=False)
    assert voted([[labels[row] for row in rows] for rows in near]) == classifier.predict(queries).tolist()


@given(st.lists(st.tuples(st.none() | st.integers(-3, 3), st.sampled_from(NAMES)), min_size=1, max_size=12), st.data())
def test_weighted_votes_are_those_of_scikit_learn(
    neighbors: Any, rows: list[tuple[int | None, str]], data: st.DataObject
) -> None:
    # Powers of two: their sums are exact, so that equal ones are equal in any order.
    points = [[0.0 if power is None else 2.0**power] for power, _ in rows]
    labels = [label for _, label in rows]
    k = data.draw(st.integers(1, len(rows)))
    classifier = neighbors.KNeighborsClassifier(k, weights="distance", algorithm="kd_tree").fit(points, labels)
    distances, near = classifier.kneighbors([[0.0]])
    predicted = voted([[labels[row] for row in near[0]]], distances=distances.tolist())
    assert predicted == classifier.predict([[0.0]]).tolist()


def test_a_table_counts_queries_by_true_and_predicted_label() -> None:
    table = Labelled.of(["cat", "cat", "dog", "dog", "dog"], ["cat", "dog", "dog", None, "ant"])
    assert table.labels == ("ant", "cat", "dog")
    assert table.confusion.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1]]
    assert table.unpredicted.tolist() == [0, 0, 1]
    assert table.support.tolist() == [0, 2, 3]
    assert table.precision.tolist() == [0, 1, 0.5]
    assert table.recall.tolist() == [0, 0.5, pytest.approx(1 / 3)]
    assert table.f1.tolist() == [0, pytest.approx(2 / 3), pytest.approx(0.4)]


def test_accuracy_has_the_interval_of_wilson_and_no_prediction_is_wrong() -> None:
    accuracy = Labelled.of([1] * 10, [1] * 9 + [None]).accuracy
    assert (accuracy.value, accuracy.count) == (0.9, 10)
    assert (accuracy.low, accuracy.high) == pytest.approx((0.59585, 0.98212), abs=1e-5)


def test_of_no_query_there_is_no_accuracy() -> None:
    table = Labelled.of([], [])
    assert table.confusion.shape == (0, 0)
    assert math.isnan(table.accuracy.value)


@pytest.mark.filterwarnings("ignore:A single label")
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=30))
def test_tables_are_those_of_scikit_learn(metrics: Any, pairs: list[tuple[str, str]]) -> None:
    truth, predicted = [true for true, _ in pairs], [one for _, one in pairs]
    table = Labelled.of(truth, predicted)
    np.testing.assert_array_equal(table.confusion, metrics.confusion_matrix(truth, predicted, labels=table.labels))
    expected = metrics.precision_recall_fscore_support(truth, predicted, zero_division=0)
    for ours, theirs in zip((table.precision, table.recall, table.f1, table.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    assert table.accuracy.value == pytest.approx(metrics.accuracy_score(truth, predicted), abs=1e-9)


def test_labels_of_two_kinds_are_refused() -> None:
    mixed: list[Label] = ["cat", 1]
    for refused in (lambda: voted([mixed]), lambda: Labelled.of(mixed, mixed)):
        with pytest.raises(UsageError, match="all of one kind"):
            refused()


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(UsageError, match="2 labels are true and 1 predicted"):
        Labelled.of(["cat", "dog"], ["cat"])
    with pytest.raises(UsageError, match="give each neighbour its distance"):
        voted([["cat", "dog"]], distances=[[1.0]])
    with pytest.raises(UsageError, match="k is 0"):
        voted([["cat"]], k=0)


@pytest.mark.parametrize("distance", [-1.0, math.nan])
def test_a_distance_that_means_nothing_is_refused(distance: float) -> None:
    with pytest.raises(UsageError, match="query 1 has a neighbour at distance"):
        voted([["cat"], ["cat"]], distances=[[1.0], [distance]])
