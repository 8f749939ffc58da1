"""Queries made of several: against the plain arithmetic of unit vectors."""

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.queries.compose import combined, expanded, without

RNG = np.random.default_rng(3)
SOME = RNG.standard_normal((4, 6)).astype(np.float32) * np.array([[1], [100], [1e-20], [1e20]], np.float32)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    made: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return made


UNITS = unit(SOME.astype(np.float64))


def test_weights_are_of_vectors_of_length_one() -> None:
    weights = [1, 0.5, -2, 0]
    assert combined(SOME, weights) == pytest.approx(unit(np.array([weights @ UNITS])), abs=1e-6)
    assert combined(SOME[:1], [7]) == pytest.approx(UNITS[:1], abs=1e-6)


def test_less_a_concept_is_the_difference_of_directions() -> None:
    assert without(SOME[:2], SOME[2:]) == pytest.approx(unit(UNITS[:2] - UNITS[2:].sum(axis=0)), abs=1e-6)
    assert without(SOME, SOME[:0]) is SOME


def test_expansion_adds_results_by_the_power_of_their_cosines() -> None:
    neighbours, cosines = SOME[1:], [0.9, 0.5, -0.3]
    wanted = unit(UNITS[:1] + 0.9**3 * UNITS[1:2] + 0.5**3 * UNITS[2:3])
    assert expanded(SOME[:1], lambda: [(neighbours, cosines)], 3) == pytest.approx(wanted, abs=1e-6)
    average = unit(UNITS[:1] + UNITS[1:2] + UNITS[2:3])
    assert expanded(SOME[:1], lambda: [(neighbours, cosines)], 0) == pytest.approx(average, abs=1e-6)
    assert expanded(SOME[:1], lambda: [(SOME[:0], [])], 3) == pytest.approx(UNITS[:1], abs=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: combined(SOME, [1, 1]), "2 weights for 4 queries"),
        (lambda: combined(SOME[:1], [float("nan")]), "a weight is not finite"),
        (lambda: combined(SOME[:2][[0, 0]], [1, -1]), "the queries cancel each other"),
        (lambda: without(SOME[:1], SOME[:1]), "the queries cancel each other"),
        (lambda: combined(np.zeros((1, 3), np.float32), [1]), "a query vector is zero"),
        (lambda: combined(np.array([[np.inf, 1]], np.float32), [1]), "not finite"),
        (lambda: expanded(SOME[:1], lambda: [(SOME[:0], [])], -1), "alpha is -1"),
    ],
)
def test_what_has_no_direction_is_refused(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match=words):
        make()
