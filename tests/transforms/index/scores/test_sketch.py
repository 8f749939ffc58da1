"""Sketches: what they rule out is never the nearest, and what they leave open is decided without them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.examples import costly
from transforms.index import assignment
from transforms.index.assignment import FlatAssigner
from transforms.index.scores.scorer import Scorer
from transforms.index.scores.sketch import Finalists, Sketch, chosen_sketch, sketches

D, NLIST = 96, 300


def drawn(seed: int, rows: int, decay: float) -> NDArray[np.float32]:
    """Vectors whose components get smaller by this factor from one to the next, turned."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))
    scales = decay ** np.arange(D)
    made = (np.random.default_rng(seed).standard_normal((rows, D)) * scales) @ turn
    return np.asarray(made, np.float32)


def turned(lists: NDArray[np.float32]) -> NDArray[np.float64]:
    _, basis = np.linalg.eigh((lists.T @ lists).astype(np.float64))
    return np.asarray(basis[:, ::-1])


def sketch_of(scorer: Scorer, basis: NDArray[np.float64], components: int) -> Sketch:
    (sketch,) = sketches(scorer, basis, [components])
    return sketch


def exact_scores(vectors: NDArray[np.float32], lists: NDArray[np.float32], *, spherical: bool) -> NDArray[np.float64]:
    wide = lists.astype(np.float64)
    return np.asarray(vectors.astype(np.float64) @ wide.T - (0 if spherical else 0.5 * (wide * wide).sum(axis=1)))


@costly
@given(
    seed=st.integers(0, 999),
    decay=st.sampled_from([1.0, 0.97, 0.9, 0.5]),
    size=st.sampled_from([1e-8, 1e-3, 1.0, 1e6]),
    components=st.sampled_from([1, 8, 32]),
    spherical=st.booleans(),
)
def test_no_score_is_above_its_bound_or_too_far_below_it(
    seed: int, decay: float, size: float, components: int, *, spherical: bool
) -> None:
    lists, vectors = drawn(seed, NLIST, decay), np.float32(size) * drawn(seed + 1, 200, decay)
    vectors[:50] = lists[:50]  # of equal directions the bound is the score itself
    scorer = Scorer(lists, spherical)
    sketch = sketch_of(scorer, turned(lists), components)
    bounds = sketch.bounds(sketch.of(vectors), np.empty((200, NLIST), np.float32))
    over = exact_scores(vectors, lists, spherical=spherical) - bounds
    assert (over <= scorer.rounding(vectors)[:, None]).all()
    highest = bounds.argmax(axis=1)
    under = -over[np.arange(200), highest] - sketch.slack(sketch.of(vectors), highest)
    assert (under <= scorer.rounding(vectors)).all()


@pytest.mark.parametrize("spherical", [True, False])
def test_sketches_that_are_made_together_are_those_that_are_made_alone(*, spherical: bool) -> None:
    lists, vectors, sizes = drawn(1, 2500, 0.9), drawn(2, 10, 0.9), (1, 8, 32, D - 1)
    scorer, basis, room = Scorer(lists, spherical), turned(lists), np.empty((10, 2500), np.float32)
    for size, sketch in zip(sizes, sketches(scorer, basis, sizes), strict=True):
        alone = sketch_of(scorer, basis, size)
        found, expected = (one.bounds(one.of(vectors), room).copy() for one in (sketch, alone))
        np.testing.assert_array_equal(found, expected)


@costly
@given(seed=st.integers(0, 999), decay=st.sampled_from([1.0, 0.97, 0.9]), spherical=st.booleans())
def test_what_is_sure_is_the_exactly_nearest(seed: int, decay: float, *, spherical: bool) -> None:
    lists, vectors = drawn(seed, NLIST, decay), drawn(seed + 1, 500, decay)
    lists[NLIST // 2 :] = lists[: NLIST // 2]
    lists[200:] += np.float32(1e-3) * drawn(seed + 2, NLIST - 200, decay)
    scorer = Scorer(lists, spherical)
    finalists = Finalists(scorer, vectors)
    finalists.look(sketch_of(scorer, turned(lists), 32))
    found, sure = finalists.decide()
    scores = exact_scores(vectors, lists, spherical=spherical)
    np.testing.assert_array_equal(found[sure], scores.argmax(axis=1)[sure])
    highest = np.sort(scores, axis=1)
    equal = highest[:, -1] == highest[:, -2]
    assert not (sure & equal).any()


@pytest.mark.parametrize("spherical", [True, False])
def test_lists_that_differ_by_less_than_rounding_are_not_told_apart_by_bounds(*, spherical: bool) -> None:
    plane = turned(drawn(0, NLIST, 1.0))[:, :8].T.astype(np.float32)
    lists = np.random.default_rng(1).standard_normal((NLIST, 8)).astype(np.float32) @ plane
    lists[NLIST // 2 :] = lists[: NLIST // 2] * np.float32(1 + 2e-7)
    vectors = np.random.default_rng(2).standard_normal((3000, 8)).astype(np.float32) @ plane
    scorer = Scorer(lists, spherical)
    finalists = Finalists(scorer, vectors)
    finalists.look(sketch_of(scorer, turned(lists), 32))
    found, sure = finalists.decide()
    exact = exact_scores(vectors, lists, spherical=spherical).argmax(axis=1)
    assert (found == exact)[sure].all()
    assert sure.mean() < 0.1


@pytest.mark.parametrize("spherical", [True, False])
@pytest.mark.parametrize(("length", "size"), [(1e-24, 1.0), (1e-28, 1.0), (1.0, 1e-25), (1e-20, 1e-20)])
def test_of_any_length_the_nearest_is_found(length: float, size: float, *, spherical: bool) -> None:
    lists, vectors = np.float32(length) * drawn(0, NLIST, 0.97), np.float32(size) * drawn(1, 500, 0.97)
    lists[NLIST // 2 :] = lists[: NLIST // 2] * np.float32(1 + 2e-7)
    found = FlatAssigner(lists, spherical=spherical).assign(vectors)
    scores = exact_scores(vectors, lists, spherical=spherical)
    rows = np.arange(500)
    assert (scores[rows, found] == scores.max(axis=1)).all()


def test_rows_with_many_lists_left_are_not_sure() -> None:
    scorer = Scorer(drawn(1, NLIST, 1.0), True)
    finalists = Finalists(scorer, drawn(2, 100, 1.0))
    finalists.look(sketch_of(scorer, np.eye(D), 1))
    assert (finalists.left > 64).all()
    assert not finalists.decide()[1].any()


def test_no_sketch_where_all_directions_tell_as_much() -> None:
    assert chosen_sketch(Scorer(drawn(3, NLIST, 1.0), True), drawn(4, 5000, 1.0)) is None
    assert chosen_sketch(Scorer(drawn(3, NLIST, 0.9), True), drawn(4, 5000, 0.9)) is not None


@pytest.mark.parametrize("spherical", [True, False])
@costly
@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 6000), max_size=4))
def test_neither_the_sketch_nor_company_changes_a_list(seed: int, cuts: list[int], *, spherical: bool) -> None:
    lists, vectors = drawn(5, NLIST, 0.9), drawn(6, 6000, 0.9)
    lists[200] = lists[100]
    vectors[::7] = lists[100]
    scores = exact_scores(vectors, lists, spherical=spherical)
    order = np.random.default_rng(seed).permutation(len(vectors))
    assigner = FlatAssigner(lists, spherical)
    whole = assigner.assign(vectors)  # of so many a sketch is chosen
    np.testing.assert_array_equal(whole, scores.argmax(axis=1))
    parts = [assigner.assign(part) for part in np.split(vectors[order], sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), whole[order])


def test_other_vectors_than_those_it_was_chosen_by_get_their_lists_too() -> None:
    lists = np.concatenate([drawn(7, NLIST // 2, 0.9), drawn(8, NLIST // 2, 1.0)])
    assigner = FlatAssigner(lists, spherical=True)
    for decay in (0.9, 1.0, 1.0, 0.9):
        vectors = drawn(9, 5000, decay)
        expected = exact_scores(vectors, lists, spherical=True).argmax(axis=1)
        np.testing.assert_array_equal(assigner.assign(vectors), expected)


def test_vectors_too_long_for_float32_are_left_open() -> None:
    scorer = Scorer(drawn(10, NLIST, 0.9), True)
    finalists = Finalists(scorer, drawn(11, 100, 0.9) * np.float32(1e25))
    with np.errstate(over="ignore", invalid="ignore"):
        finalists.look(sketch_of(scorer, turned(scorer.centroids), 32))
    assert not finalists.decide()[1].any()


@pytest.mark.parametrize("size", [1e-18, 1e-23, 1e-30, 1e-38])
def test_vectors_whose_squares_are_too_small_for_float32_are_never_sure(size: float) -> None:
    lists, vectors = drawn(0, NLIST, 0.97), np.float32(size) * drawn(1, 500, 1.0)
    scorer = Scorer(lists, spherical=True)
    finalists = Finalists(scorer, vectors)
    finalists.look(sketch_of(scorer, turned(lists), 32))
    found, sure = finalists.decide()
    exact = exact_scores(vectors, lists, spherical=True).argmax(axis=1)
    assert (found == exact)[sure].all()


def test_lists_that_come_in_near_pairs_are_no_longer_sketched_after_two_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = drawn(0, NLIST, 0.9)
    lists[NLIST // 2 :] = lists[: NLIST // 2] * np.float32(1 + 1e-7)
    vectors, chosen = drawn(1, 4096, 0.9), []

    def noted(scorer: Scorer, rows: NDArray[np.float32]) -> Sketch | None:
        chosen.append(sketch_of(scorer, turned(lists), 32))
        return chosen[-1]

    monkeypatch.setattr(assignment, "chosen_sketch", noted)
    assigner = FlatAssigner(lists, spherical=True)
    found = [assigner.assign(vectors).tolist() for _ in range(4)]
    assert len(chosen) == 2 and all(each == found[0] for each in found)
