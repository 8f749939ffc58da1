"""Codes are those that faiss stores, and depend on the slots of the plan alone."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.transforms.index.test_faiss_file import DIMENSION, KEYS, NLIST, factory_key, normalised, trained_index
from transforms.errors import PixdexError
from transforms.index.encode import encode_block


@pytest.mark.parametrize("key", KEYS)
def test_slots_are_independent_of_how_callers_cut_the_block(key: str) -> None:
    index = trained_index(factory_key(key))
    vectors, ids = normalised(700, 1), np.arange(700)
    lists, codes = encode_block(index, vectors, ids, 128)
    for cut in (128, 384, 640):
        parts = [encode_block(index, vectors[rows], ids[rows], 128) for rows in (slice(0, cut), slice(cut, 700))]
        assert (np.concatenate([part[0] for part in parts]) == lists).all()
        assert (np.concatenate([part[1] for part in parts]) == codes).all()


def test_neighbours_in_a_slot_change_no_code() -> None:
    index = trained_index(f"PCA16,IVF{NLIST},SQ8")
    vectors = normalised(128, 2)
    lists, codes = encode_block(index, vectors, np.arange(128), 128)
    fewer_lists, fewer_codes = encode_block(index, vectors[:50], np.arange(50), 128)
    assert (fewer_lists == lists[:50]).all() and (fewer_codes == codes[:50]).all()


def test_flat_codes_are_the_vectors_themselves() -> None:
    vectors = normalised(10, 3)
    _, codes = encode_block(trained_index(f"IVF{NLIST},Flat"), vectors, np.arange(10), 8)
    assert (codes.view(np.float32) == vectors).all()


@pytest.mark.parametrize("key", ["Flat", "IVF_HNSW8,PQ8np", "PCA16,IVF,SQ8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_named(key: str, value: float) -> None:
    vectors = normalised(30, 4)
    vectors[21, 5] = value
    with pytest.raises(PixdexError, match="id 1021 is not finite"):
        encode_block(trained_index(factory_key(key)), vectors, np.arange(1000, 1030), 16)


def test_no_vectors_make_no_codes() -> None:
    empty: NDArray[np.float32] = np.empty((0, DIMENSION), np.float32)
    lists, codes = encode_block(trained_index(f"IVF{NLIST},PQ8np"), empty, np.empty(0, np.int64))
    assert lists.shape == (0,) and codes.shape == (0, 8)


def test_vectors_of_another_shape_are_refused() -> None:
    index = trained_index(f"IVF{NLIST},Flat")
    with pytest.raises(ValueError, match="dimension 32"):
        encode_block(index, np.zeros((2, 31), np.float32), np.arange(2))
    assert isinstance(index, faiss.Index)
