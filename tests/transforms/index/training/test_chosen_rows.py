"""Chosen rows are the same however they are taken, and are never copied all at once."""

import tracemalloc
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from transforms.index.training.chosen_rows import ChosenRows


@given(st.integers(0, 300), st.integers(1, 300), st.booleans(), st.integers(0, 2**32 - 1))
def test_some_are_ascending_and_of_those_there_were(count: int, wanted: int, are_all: bool, seed: int) -> None:
    vectors = np.arange(count, dtype=np.float32)[:, None]
    there = ChosenRows(vectors) if are_all else ChosenRows(vectors, np.arange(0, count, 3))
    some = there.some(wanted, seed)
    values = some.copied()[:, 0]
    assert (np.diff(values) > 0).all() and set(values) <= set(there.copied()[:, 0])
    assert len(some) == wanted or (len(some) == len(there) and len(there) <= 1.05 * wanted)
    assert (some.copied() == there.some(wanted, seed).copied()).all()


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 9000])
@pytest.mark.parametrize("key", ["OPQ2_4,IVF2,PQ2", "PCA3,L2norm,IVF2,SQ8", "IVF2,Flat"])
def test_they_are_the_same_in_blocks_and_behind_transforms(count: int, key: str) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((2 * count, 8)).astype(np.float32)
    rows = ChosenRows(vectors, np.arange(0, 2 * count, 2))
    index = faiss.index_factory(8, key)
    expected: NDArray[Any] = vectors[::2]
    if isinstance(index, faiss.IndexPreTransform):
        for step in range(index.chain.size()):
            transform = faiss.downcast_VectorTransform(index.chain.at(step))
            if not transform.is_trained:
                transform.train(generator.standard_normal((1000, 8)).astype(np.float32))
            expected = transform.apply(np.ascontiguousarray(expected)) if count else np.empty((0, transform.d_out))
    np.testing.assert_allclose(rows.behind(index), expected, atol=1e-5)
    assert (np.concatenate([vectors[:0], *rows.blocks()]) == vectors[::2]).all()
    squares = (vectors[::2].astype(np.float64) ** 2).sum(axis=1)
    assert rows.mean_square() == pytest.approx(squares.mean() if count else 0)


def test_what_is_behind_transforms_is_made_without_a_copy_of_what_is_before() -> None:
    vectors = np.ones((65_536, 256), np.float32)
    index = faiss.index_factory(256, "PCA8,IVF2,Flat")
    index.chain.at(0).train(np.random.default_rng(0).standard_normal((2000, 256)).astype(np.float32))
    rows = ChosenRows(vectors, np.arange(0, len(vectors), 2))
    tracemalloc.start()
    rows.behind(index)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(rows) * 256 * 4 / 3
