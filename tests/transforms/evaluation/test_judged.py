"""Measures of rankings: the examples of the literature, and scikit-learn."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import UsageError
from transforms.evaluation.judged import Gain, Judged

JARVELIN = [3, 2, 3, 0, 0, 1, 2, 2, 3, 0]
"""G' of Järvelin and Kekäläinen 2002."""
JARVELIN_IDEAL = [3, 3, 3, 2, 2, 2, 1, 1, 1, 1]
"""I' of theirs: the ranking does not find three of relevance 1."""


def judged(*relevances: float, missed: tuple[float, ...] = ()) -> Judged:
    """One query: what was found has these relevances, best rank first, and other items were not found."""
    grades = {f"found {rank}": relevance for rank, relevance in enumerate(relevances)}
    grades |= {f"missed {number}": relevance for number, relevance in enumerate(missed)}
    return Judged.of({"q": [key for key in grades if key.startswith("found")]}, {"q": grades})


def test_cumulated_gain_is_that_of_jarvelin_and_kekalainen() -> None:
    example = judged(*JARVELIN)
    gains = [example.cg(k).values[0] for k in range(1, 11)]
    assert gains == [3, 5, 8, 8, 8, 9, 11, 13, 16, 16]


def test_gain_over_that_of_the_ideal_is_theirs() -> None:
    example, ideal = judged(*JARVELIN), judged(*JARVELIN_IDEAL)
    shares = [example.cg(k).values[0] / ideal.cg(k).values[0] for k in range(1, 11)]
    assert shares == pytest.approx([1, 0.83, 0.89, 0.73, 0.62, 0.6, 0.69, 0.76, 0.89, 0.84], abs=5e-3)


def test_discounted_gain_divides_by_the_logarithm_of_rank_and_one() -> None:
    # Theirs of this example, which divides by log2(rank) from rank 2 on, is 3, 5, 6.89, ..., 9.61.
    example = judged(*JARVELIN)
    gains = [example.dcg(k).values[0] for k in range(1, 11)]
    # 3, 2/log2(3), 3/log2(4), 0, 0, 1/log2(7), 2/log2(8), 2/log2(9), 3/log2(10), 0
    expected = [3, 4.26186, 5.76186, 5.76186, 5.76186, 6.11807, 6.78474, 7.41566, 8.31875, 8.31875]
    assert gains == pytest.approx(expected, abs=2e-5)


def test_normalised_gain_is_over_what_the_best_ranking_of_all_judged_items_has() -> None:
    # The ideal has 3, 3/log2(3), 3/2, 2/log2(5), 2/log2(6), 2/log2(7), 1/3, 1/log2(9), 1/log2(10), 1/log2(11): 9.97915
    example = judged(*JARVELIN, missed=(1, 1, 1))
    assert example.ndcg(10).values[0] == pytest.approx(8.31875 / 9.97915, abs=2e-5)
    assert example.ndcg().values[0] == example.ndcg(10).values[0]
    assert judged(*JARVELIN_IDEAL).ndcg().values[0] == 1


def test_the_textbook_example_of_normalised_gain_comes_out() -> None:
    # Of "Discounted cumulative gain", Wikipedia: six documents are found, one of 3 and one of 2 are not.
    example = judged(3, 2, 3, 0, 1, 2, missed=(3, 2))
    assert example.dcg(6).values[0] == pytest.approx(6.861, abs=5e-4)
    assert example.ndcg(6).values[0] == pytest.approx(0.785, abs=5e-4)


def test_exponential_gain_is_that_of_burges() -> None:
    # 7, 3/log2(3), 7/2, 0, 1/log2(6), 3/log2(7)
    assert judged(3, 2, 3, 0, 1, 2).dcg(gain="exponential").values[0] == pytest.approx(13.84826, abs=2e-5)


def test_average_precision_counts_all_that_is_relevant() -> None:
    example = judged(1, 0, 2, 0, 0, 1, missed=(3,))
    assert example.average_precision().values[0] == pytest.approx((1 + 2 / 3 + 3 / 6) / 4)
    assert example.average_precision(3).values[0] == pytest.approx((1 + 2 / 3) / 4)


def test_reciprocal_rank_is_of_the_first_that_is_relevant() -> None:
    assert judged(0, 0, 1, 1).reciprocal_rank().values.tolist() == [pytest.approx(1 / 3)]
    assert judged(0, 0, 1, 1).reciprocal_rank(2).values.tolist() == [0]


def test_precision_takes_what_was_not_found_as_wrong() -> None:
    assert judged(1, 0, 2).precision(2).values.tolist() == [0.5]
    assert judged(1, 0, 2).precision(10).values.tolist() == [pytest.approx(0.2)]


def test_less_than_one_is_gained_and_is_not_relevant() -> None:
    example = judged(0.5, 1)
    assert example.cg().values.tolist() == [1.5]
    assert example.reciprocal_rank().values.tolist() == [0.5]


def test_below_zero_and_not_judged_is_zero() -> None:
    example = Judged.of({"q": ["bad", "unknown", "good"]}, {"q": {"bad": -2, "good": 1}})
    assert example.cg().values.tolist() == [1]
    assert example.ndcg().values.tolist() == [0.5]


def test_equal_scores_need_no_rule_since_the_order_is_the_one_given() -> None:
    grades = {"q": {"a": 1.0}}
    assert Judged.of({"q": ["a", "b"]}, grades).ndcg().values[0] == 1
    assert Judged.of({"q": ["b", "a"]}, grades).ndcg().values[0] == pytest.approx(1 / math.log2(3))


def test_queries_without_results_count_and_those_without_judgements_do_not() -> None:
    example = Judged.of({"found": ["a"], "not judged": ["a"]}, {"found": {"a": 1}, "not found": {"a": 1}})
    assert example.queries == ("found", "not found")
    for measured in (example.ndcg(), example.average_precision(), example.reciprocal_rank(), example.precision(1)):
        assert measured.values.tolist() == [1, 0]
        assert (measured.mean.value, measured.mean.count) == (0.5, 2)
    assert (example.left_out, example.without_results(), example.without_relevant()) == (1, 1, 0)


def test_a_query_of_which_nothing_is_relevant_counts_zero() -> None:
    example = Judged.of({"q": ["a"], "r": ["a"]}, {"q": {"a": 0, "b": -1}, "r": {}})
    for measured in (example.ndcg(), example.average_precision(), example.reciprocal_rank()):
        assert measured.values.tolist() == [0, 0]
    assert example.without_relevant() == 2


def test_without_queries_there_are_no_values() -> None:
    example = Judged.of({}, {})
    assert example.ndcg(10).values.tolist() == []
    assert math.isnan(example.average_precision().mean.value)


def test_keys_may_be_ids() -> None:
    assert Judged.of({0: [7, 5]}, {0: {5: 1}}).reciprocal_rank().values.tolist() == [0.5]


def test_a_key_with_two_ranks_is_refused() -> None:
    with pytest.raises(UsageError, match="'q' name 'a' more than once"):
        Judged.of({"q": ["b", "a", "a"]}, {"q": {"a": 1}})


@pytest.mark.parametrize("grade", [math.nan, math.inf])
def test_a_relevance_that_is_no_number_is_refused(grade: float) -> None:
    with pytest.raises(UsageError, match="judges 'a' as"):
        Judged.of({}, {"q": {"a": grade}})


def test_a_relevance_whose_exponential_gain_is_too_large_is_refused() -> None:
    with pytest.raises(UsageError, match="take linear gain"):
        judged(2000).ndcg(gain="exponential")
    assert judged(2000).ndcg().values.tolist() == [1]


def test_a_k_that_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="k is 0"):
        judged(1).precision(0)


@st.composite
def rankings(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, dict[str, float]]]:
    """Rankings of all that is judged: scikit-learn knows no others."""
    ranked, grades = {}, {}
    for query in range(draw(st.integers(1, 4))):
        relevances = draw(st.lists(st.integers(0, 4) | st.floats(0, 4), min_size=2, max_size=12))
        judgements = {f"k{number}": float(relevance) for number, relevance in enumerate(relevances)}
        ranked[f"q{query}"] = list(draw(st.permutations(list(judgements))))
        grades[f"q{query}"] = judgements
    return ranked, grades


@given(rankings(), st.none() | st.integers(1, 14), st.sampled_from(["linear", "exponential"]))
def test_measures_are_those_of_scikit_learn(
    metrics: Any, example: tuple[dict[str, list[str]], dict[str, dict[str, float]]], k: int | None, gain: Gain
) -> None:
    ranked, grades = example
    measured = Judged.of(ranked, grades)
    ndcg, dcg, average = (
        measured.ndcg(k, gain).values,
        measured.dcg(k, gain).values,
        measured.average_precision().values,
    )
    for place, (query, ranking) in enumerate(ranked.items()):
        relevances = np.array([[grades[query][key] for key in ranking]])
        gains = relevances if gain == "linear" else 2**relevances - 1
        scores = -np.arange(len(ranking), dtype=float)[None]
        assert ndcg[place] == pytest.approx(metrics.ndcg_score(gains, scores, k=k), abs=1e-9)
        assert dcg[place] == pytest.approx(metrics.dcg_score(gains, scores, k=k), abs=1e-9)
        relevant = relevances[0] >= 1
        expected = metrics.average_precision_score(relevant, scores[0]) if relevant.any() else 0.0
        assert average[place] == pytest.approx(expected, abs=1e-9)
