"""Augmented vectors are those that a plain loop makes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.index.derived.augmented import NO_NEIGHBOUR, augmented, places_of

Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.float64]) -> Vectors:
    made: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def plain(vectors: Vectors, neighbours: Vectors, places: NDArray[np.int64], alpha: float) -> NDArray[np.float64]:
    """The definition, vector by vector."""
    made = []
    for vector, mine in zip(vectors.astype(np.float64), places, strict=True):
        total = vector.copy()
        for place in mine[mine != NO_NEIGHBOUR]:
            neighbour = neighbours[place].astype(np.float64)
            if (cosine := vector @ neighbour) > 0:
                total += cosine**alpha * neighbour
        made.append(total / np.linalg.norm(total))
    return np.array(made)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_unit_vectors_become_the_weighted_sum(alpha: float) -> None:
    rng = np.random.default_rng(1)
    vectors, neighbours = unit(rng.standard_normal((700, 12))), unit(rng.standard_normal((50, 12)))
    places = rng.integers(NO_NEIGHBOUR, 50, (700, 5))
    made = augmented(vectors, neighbours, places, alpha)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, plain(vectors, neighbours, places, alpha), atol=1e-6)


def test_a_vector_without_neighbours_that_are_near_is_the_same_to_the_bit() -> None:
    vectors = unit(np.random.default_rng(2).standard_normal((3, 7)))
    places = np.array([[NO_NEIGHBOUR], [0], [NO_NEIGHBOUR]])
    assert (augmented(vectors, -vectors[1:2], places, 0.0) == vectors).all()
    assert (augmented(vectors, vectors, np.empty((3, 0), np.int64), 3.0) == vectors).all()


def test_a_vector_keeps_its_length_whatever_that_of_its_neighbours() -> None:
    vectors = np.array([[3.0, 0.0]], np.float32)
    made = augmented(vectors, np.array([[50.0, 50.0]], np.float32), np.array([[0]]), 1.0)
    expected = np.array([1 + 0.5, 0.5])  # a neighbour is a direction, with the cosine as its weight
    np.testing.assert_allclose(made[0], 3 * expected / np.linalg.norm(expected), rtol=1e-6)


def test_a_row_is_no_neighbour_of_itself_wherever_it_is_found() -> None:
    counts, ids = np.array([3, 2, 0, 3]), np.array([1, 2, 3, 9, 8, 4, 4, 5])
    found = places_of(counts, ids, np.array([2, 7, 1, 5]), 2)
    assert found.tolist() == [[1, 3], [9, 8], [NO_NEIGHBOUR, NO_NEIGHBOUR], [4, 4]]


def test_a_vector_without_a_direction_stays_as_it_is() -> None:
    vectors = np.array([[0, 0], [2, 0]], np.float32)
    made = augmented(vectors, vectors, np.array([[1], [0]]), 3.0)
    assert made.tolist() == vectors.tolist()
