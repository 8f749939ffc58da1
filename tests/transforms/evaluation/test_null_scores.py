"""Cut-offs against distributions that are known: what null queries find, near and apart, and as rows become more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.evaluation.null_scores import LEAST, NEAR, NullScores, null_queries
from transforms.records import Metric

Vectors = NDArray[np.float32]
DIM = 8


def unit(vectors: NDArray[np.floating]) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def normal(count: int, seed: int = 0, dim: int = DIM) -> Vectors:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def best(queries: Vectors, rows: Vectors, metric: Metric) -> NDArray[np.float32]:
    """The best score of each query, of distances the least."""
    if metric == "ip":
        return np.asarray((queries @ rows.T).max(axis=1))
    apart = queries[:, None] - rows[None]
    distances = np.abs(apart).sum(axis=2) if metric == "l1" else np.square(apart).sum(axis=2)
    return np.asarray(distances.min(axis=1))


def finding(scores: NullScores, queries: Vectors, rows: Vectors) -> float:
    """The share of queries that have results."""
    sign = 1 if scores.metric == "ip" else -1
    found = sign * best(queries, rows, scores.metric) >= sign * scores.cut_offs(queries)
    return float(np.mean(found))


@pytest.mark.parametrize("metric", ["ip", "l2", "l1"])
def test_so_many_null_queries_find_something_as_are_allowed(metric: Metric) -> None:
    rows, like, queries = normal(1500), normal(800, 1), normal(600, 2)
    if metric == "ip":
        rows, like, queries = unit(rows), unit(like), unit(queries)
    scores = NullScores.of(rows, like, metric, len(rows))
    assert NEAR / 3 < finding(scores, queries, rows) < 0.075


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_the_cut_off_of_a_sample_holds_for_many_more_rows(metric: Metric) -> None:
    rows, like, queries = normal(20_000), normal(800, 1), normal(300, 2)
    if metric == "ip":
        rows, like, queries = unit(rows), unit(like), unit(queries)
    few = NullScores.of(rows[:2000], like, metric, 2000)
    scores = NullScores.of(rows[:2000], like, metric, len(rows))
    shares = [sum(finding(one, queries[at : at + 50], rows) for at in range(0, 300, 50)) / 6 for one in (few, scores)]
    assert shares[0] > 0.08  # a maximum over more rows is higher
    assert NEAR / 4 < shares[1] < 0.08


def test_a_query_that_is_near_to_one_row_finds_it() -> None:
    rows = unit(normal(1000))
    scores = NullScores.of(rows, unit(normal(500, 1)), "ip", len(rows))
    near = unit(rows[:200] + 0.05 * normal(200, 2))
    assert finding(scores, near, rows) == 1


def test_a_query_of_many_rows_finds_those_that_stand_apart_and_no_others() -> None:
    rng = np.random.default_rng(3)
    middle = unit(rng.standard_normal((1, 64)))
    cluster = unit(middle + 0.18 * rng.standard_normal((40, 64)))  # none is near to the middle
    rows = np.concatenate([unit(rng.standard_normal((2000, 64))), cluster])
    scores = NullScores.of(rows, unit(np.random.default_rng(4).standard_normal((800, 64))), "ip", len(rows))
    (cut,) = scores.cut_offs(middle)
    assert cut < 1 - scores.near
    found = (rows @ middle[0] >= cut).nonzero()[0]
    assert len(found) > 20
    assert (found >= 2000).all()


@given(st.integers(0, 50), st.sampled_from(["ip", "l2", "l1"]))
def test_the_cut_offs_of_a_query_do_not_depend_on_the_others(place: int, metric: Metric) -> None:
    rows, queries = unit(normal(300, dim=4)), unit(normal(51, 2, dim=4))
    scores = NullScores(rows, rows, metric, 0.1, 1.9)
    alone = scores.cut_offs(queries[place : place + 1])
    np.testing.assert_allclose(alone[0], scores.cut_offs(queries)[place], atol=1e-5)


def test_the_same_rows_give_the_same_cut_offs_and_another_seed_nearly() -> None:
    rows, like = unit(normal(600)), unit(normal(600, 1))
    one, same, other = (NullScores.of(rows, like, "ip", 10_000, seed) for seed in (0, 0, 1))
    assert (one.near, one.apart) == (same.near, same.apart)
    assert one.near == pytest.approx(other.near, rel=0.3)


def test_null_queries_have_mean_and_covariance_of_real_ones() -> None:
    mixing = normal(3, 5, dim=3)
    like = normal(5000, 1, dim=3) @ mixing + np.array([1, 2, 3], np.float32)
    made = null_queries(like, 20_000, 0, unit=False)
    np.testing.assert_allclose(made.mean(axis=0), like.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(made.T), np.cov(like.T), atol=0.25)
    assert np.linalg.norm(null_queries(like, 5, 0, unit=True), axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("few", [(LEAST - 1, 500), (500, LEAST - 1)])
def test_too_few_rows_are_refused(few: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="64 are the least"):
        NullScores.of(unit(normal(few[0])), unit(normal(few[1], 1)), "ip", 1000)


def test_equal_rows_are_no_trouble() -> None:
    rows = np.repeat(unit(normal(1)), 100, axis=0)
    scores = NullScores.of(rows, rows, "ip", 1000)
    assert np.isfinite(scores.cut_offs(unit(normal(5, 1)))).all()
