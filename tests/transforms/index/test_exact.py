"""Exact neighbours: what a plain look at every row finds, however the rows come and whoever joins them."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.index.exact import NO_ROW, ExactNeighbours, distances_of
from transforms.records import Metric
from transforms.shards.vectors import BATCH_ROWS

METRICS: tuple[Metric, ...] = ("ip", "l2", "l1")
Found = tuple[NDArray[np.int64], NDArray[np.float32]]


def plain(
    queries: NDArray[np.float32],
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    near: int,
    metric: Metric,
    own: NDArray[np.int64],
) -> Found:
    """Looks at every pair."""
    found = np.full((len(queries), near), NO_ROW), np.full((len(queries), near), np.inf, np.float32)
    for place, query in enumerate(queries.astype(np.float64)):
        apart = vectors.astype(np.float64) - query
        distances = {
            "ip": -(vectors.astype(np.float64) @ query),
            "l2": (apart**2).sum(axis=1),
            "l1": np.abs(apart).sum(axis=1),
        }[metric]
        rows = sorted(zip(distances.tolist(), ids.tolist(), strict=True))
        rows = [row for row in rows if row[1] != own[place]][:near]
        for rank, (distance, row) in enumerate(rows):
            found[0][place, rank], found[1][place, rank] = row, distance
    return found


def exact_of(
    queries: NDArray[np.float32],
    batches: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]],
    near: int,
    metric: Metric,
    own: NDArray[np.int64],
) -> ExactNeighbours:
    exact = ExactNeighbours(queries, near, metric, own)
    for ids, vectors in batches:
        exact.add(ids, vectors)
    return exact


def are_same(exact: ExactNeighbours, wanted: Found) -> None:
    np.testing.assert_array_equal(exact.ids, wanted[0])
    np.testing.assert_array_equal(exact.distances, wanted[1])


@st.composite
def rows_and_queries(draw: st.DrawFn) -> dict[str, Any]:
    """Small whole numbers: every product is exact, and many distances are equal."""
    dim, count = draw(st.integers(1, 4)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.integers(1, 5))
    ids = np.sort(rng.choice(4 * count, count, replace=False)).astype(np.int64) + draw(st.sampled_from([0, 1 << 40]))
    vectors = rng.integers(-spread, spread, (count, dim)).astype(np.float32)
    size = draw(st.integers(1, 5))
    own = np.where(rng.random(size) < 0.5, rng.choice(ids, size), NO_ROW)
    return {
        "queries": rng.integers(-spread, spread, (size, dim)).astype(np.float32),
        "ids": ids,
        "vectors": vectors,
        "near": draw(st.integers(1, count + 5)),
        "metric": draw(st.sampled_from(METRICS)),
        "own": own,
    }


def cut(draw: st.DataObject, count: int) -> list[slice]:
    cuts = sorted(draw.draw(st.sets(st.integers(1, count - 1), max_size=6))) if count > 1 else []
    return [slice(start, stop) for start, stop in itertools.pairwise([0, *cuts, count])]


@given(asked=rows_and_queries(), data=st.data())
def test_any_cut_into_batches_finds_what_a_plain_look_finds(asked: dict[str, Any], data: st.DataObject) -> None:
    ids, vectors = asked.pop("ids"), asked.pop("vectors")
    batches = [(ids[part], vectors[part]) for part in cut(data, len(ids))]
    are_same(exact_of(batches=batches, **asked), plain(ids=ids, vectors=vectors, **asked))


@given(asked=rows_and_queries(), data=st.data())
def test_batches_may_come_in_any_order(asked: dict[str, Any], data: st.DataObject) -> None:
    ids, vectors = asked.pop("ids"), asked.pop("vectors")
    batches = [(ids[part], vectors[part]) for part in data.draw(st.permutations(cut(data, len(ids))))]
    are_same(exact_of(batches=batches, **asked), plain(ids=ids, vectors=vectors, **asked))


@given(asked=rows_and_queries(), data=st.data())
def test_what_several_found_is_joined_in_any_order_and_by_any_tree(asked: dict[str, Any], data: st.DataObject) -> None:
    ids, vectors = asked.pop("ids"), asked.pop("vectors")
    parts = [exact_of(batches=[(ids[part], vectors[part])], **asked) for part in cut(data, len(ids))]
    parts.append(exact_of(batches=[], **asked))  # a task without rows
    while len(parts) > 1:
        one, other = data.draw(st.permutations(parts))[:2]
        one.join(other.ids, other.distances)
        parts = [part for part in parts if part is not other]
    are_same(parts[0], plain(ids=ids, vectors=vectors, **asked))


@pytest.mark.parametrize("metric", METRICS)
def test_of_more_equal_rows_than_are_wanted_those_of_the_lowest_ids(metric: Metric) -> None:
    ids, vectors = np.arange(100, 400), np.ones((300, 3), np.float32)
    vectors[7] = 5 if metric == "ip" else 1
    query, own = np.ones((2, 3), np.float32), np.array([NO_ROW, 100])
    for batches in ([slice(0, 300)], [slice(150, 300), slice(0, 150)]):
        exact = exact_of(query, [(ids[part], vectors[part]) for part in batches], 5, metric, own)
        first = [107] if metric == "ip" else []
        for place, rest in enumerate(([100, 101, 102, 103, 104], [101, 102, 103, 104, 105])):
            assert exact.ids[place].tolist() == [*first, *rest][:5]


@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_are_equally_far_wherever_they_stand_in_a_batch(metric: Metric) -> None:
    rng = np.random.default_rng(5)
    for count in (1, 7, 100, 1000, BATCH_ROWS):
        vectors = rng.standard_normal((count, 33)).astype(np.float32)
        vectors[rng.random(count) < 0.3] = vectors[0]
        queries = rng.standard_normal((9, 33)).astype(np.float32)
        distances = distances_of(queries, vectors, metric)
        equal = (vectors == vectors[0]).all(axis=1)
        assert (distances[:, equal] == distances[:, :1]).all()
        alone = distances_of(queries, vectors[:1], metric)
        assert (alone == distances[:, :1]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_of_thousands_of_real_numbers_the_same_rows(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    queries, vectors = (rng.standard_normal((count, 24)).astype(np.float32) for count in (20, 9000))
    ids = np.arange(9000) + 3
    own = ids[rng.permutation(9000)[:20]]
    queries[:10] = vectors[own[:10] - 3]
    batches = [(ids[at : at + BATCH_ROWS], vectors[at : at + BATCH_ROWS]) for at in range(0, 9000, BATCH_ROWS)]
    exact, wanted = exact_of(queries, batches, 40, metric, own), plain(queries, ids, vectors, 40, metric, own)
    np.testing.assert_array_equal(exact.ids, wanted[0])
    np.testing.assert_allclose(exact.distances, wanted[1], rtol=1e-4)
    assert not (exact.ids == own[:, None]).any()


def test_rows_that_lie_far_from_zero_are_told_apart() -> None:
    rng = np.random.default_rng(2)
    queries, vectors = (rng.standard_normal((count, 24)).astype(np.float32) + 1000 for count in (20, 3000))
    ids, own = np.arange(3000), np.full(20, NO_ROW)
    wanted = plain(queries, ids, vectors, 10, "l2", own)
    np.testing.assert_array_equal(exact_of(queries, [(ids, vectors)], 10, "l2", own).ids, wanted[0])


def test_fewer_rows_than_are_wanted_leave_room() -> None:
    exact = exact_of(
        np.ones((1, 2), np.float32), [(np.array([4]), np.zeros((1, 2), np.float32))], 3, "l2", np.array([-1])
    )
    assert exact.ids.tolist() == [[4, NO_ROW, NO_ROW]]
    assert exact.distances.tolist() == [[2.0, np.inf, np.inf]]


def test_what_is_infinitely_far_or_not_a_number_is_no_neighbour() -> None:
    vectors = np.array([[3e38, 3e38], [1, 1], [np.nan, 0]], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = exact_of(np.full((1, 2), -2, np.float32), [(np.arange(3), vectors)], 3, "l2", np.array([NO_ROW]))
    assert exact.ids.tolist() == [[1, NO_ROW, NO_ROW]]
