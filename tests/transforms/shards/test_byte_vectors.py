"""Vectors as bytes: values are off by less than a step, and the scores of queries like them by far less."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.shards import byte_vectors
from transforms.shards.byte_vectors import LEVELS, ROWS_AT_ONCE, as_bytes

Vectors = NDArray[np.float32]


def read(vectors: Vectors) -> Vectors:
    """What the bytes of vectors are read as."""
    stored, (lowest, steps) = as_bytes(vectors)
    values: Vectors = lowest + steps * stored.astype(np.float32)
    return values


def nearest(vectors: Vectors) -> Vectors:
    """What they are read as where each value goes to the nearest step."""
    lowest = vectors.min(axis=0)
    steps = (vectors.max(axis=0) - lowest) / np.float32(LEVELS)
    values: Vectors = lowest + steps * np.rint((vectors - lowest) / steps)
    return values


def unit(vectors: NDArray[np.float64]) -> Vectors:
    made: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def pictures(rows: int, dim: int, seed: int) -> Vectors:
    """Like embeddings of pictures: no component is negative, and what differs lies along a few axes."""
    rng, axes = np.random.default_rng(seed), np.random.default_rng(1).standard_normal((16, dim))
    return unit(np.maximum(rng.standard_normal((rows, 16)) @ axes + rng.standard_normal((rows, dim)), 0))


@given(
    rows=st.sampled_from([1, 2, 5, 1023, 1025, 2500]),
    dim=st.integers(1, 70),
    exponent=st.integers(-12, 12),
    offset=st.sampled_from([0.0, 1.0, -30.0]),
    seed=st.integers(0, 99),
)
def test_a_value_is_off_by_less_than_a_step(rows: int, dim: int, exponent: int, offset: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    widths = 10.0 ** rng.integers(-3, 3, dim)
    vectors = ((rng.standard_normal((rows, dim)) + offset) * widths * 10.0**exponent).astype(np.float32)
    got, steps = read(vectors), as_bytes(vectors)[1][1]
    size = 4e-7 * np.abs(vectors).max(axis=0)  # what float32 loses
    assert (np.abs(got - vectors) <= steps + size).all()
    for end in (vectors.min(axis=0), vectors.max(axis=0)):
        assert (np.abs(got - vectors)[vectors == end] <= np.broadcast_to(size, vectors.shape)[vectors == end]).all()


@pytest.mark.parametrize("rows", [0, 1, 3000])
def test_what_does_not_vary_is_exact(rows: int) -> None:
    vectors = np.tile(np.array([0, -1.5, 7], np.float32), (rows, 1))
    assert (read(vectors) == vectors).all()


@given(dim=st.integers(1, 300), seed=st.integers(0, 99))
def test_equal_rows_have_equal_bytes_wherever_they_stand(dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = pictures(700, dim, seed) if dim > 20 else rng.standard_normal((700, dim)).astype(np.float32)
    places = rng.integers(0, len(some), 2 * ROWS_AT_ONCE + 77)
    stored, _ = as_bytes(some[places])
    first = {place: number for number, place in reversed(list(enumerate(places.tolist())))}
    assert (stored == stored[[first[place] for place in places.tolist()]]).all()


@pytest.mark.parametrize("together", [2048, 100])
def test_scores_of_queries_like_the_rows_are_far_less_off(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(byte_vectors, "COMPONENTS_TOGETHER", together)
    rows, queries = pictures(4096, 256, 2), pictures(200, 256, 3)
    evened, plain = (float(np.std(queries @ (made - rows).T)) for made in (read(rows), nearest(rows)))
    assert evened < (0.55 if together == 2048 else 0.8) * plain


def test_scores_of_queries_unlike_the_rows_are_hardly_more_off() -> None:
    rows = pictures(4096, 256, 2)
    queries = unit(np.random.default_rng(5).standard_normal((200, 256)))
    evened, plain = (float(np.std(queries @ (made - rows).T)) for made in (read(rows), nearest(rows)))
    assert evened < 1.15 * plain


@pytest.mark.parametrize("rows", [300, 4096])
def test_rows_that_share_no_direction_are_rounded_to_the_nearest_steps(rows: int) -> None:
    vectors = unit(np.random.default_rng(6).standard_normal((rows, 256)))
    assert np.abs(read(vectors) - vectors).mean() < 1.01 * np.abs(nearest(vectors) - vectors).mean()
