"""What a vector is in the index depends on nothing but the vector and the slots of its batch."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.transforms.index.test_faiss_file import DIMENSION, KEYS, NLIST, factory_key, normalised, trained_index
from transforms.errors import PixdexError
from transforms.index.encode import Encoded, encode_batches, flat_assign
from transforms.shards.vectors import VectorBatch


def encode(index: faiss.Index, vectors: NDArray[np.float32], first: int = 0, *, batch_rows: int) -> Encoded:
    """Encodes vectors in batches, with ids from `first` on."""
    ids = np.arange(first, first + len(vectors))
    starts = range(0, len(vectors), batch_rows)
    batches = [VectorBatch(ids[at : at + batch_rows], vectors[at : at + batch_rows]) for at in starts]
    return encode_batches(index, batches, flat_assign(index), batch_rows)


@pytest.mark.parametrize("key", KEYS)
def test_slots_are_independent_of_how_callers_cut_the_block(key: str) -> None:
    index = trained_index(factory_key(key))
    vectors = normalised(700, 1)
    whole = encode(index, vectors, batch_rows=128)
    for cut in (128, 384, 640):
        parts = [encode(index, vectors[rows], batch_rows=128) for rows in (slice(0, cut), slice(cut, 700))]
        assert (np.concatenate([part.list_nos for part in parts]) == whole.list_nos).all()
        assert (np.concatenate([part.codes for part in parts]) == whole.codes).all()


def test_neighbours_in_a_slot_change_no_code() -> None:
    index = trained_index(f"PCA16,IVF{NLIST},SQ8")
    vectors = normalised(128, 2)
    full, fewer = encode(index, vectors, batch_rows=128), encode(index, vectors[:50], batch_rows=128)
    assert (fewer.list_nos == full.list_nos[:50]).all() and (fewer.codes == full.codes[:50]).all()


def test_flat_codes_are_the_vectors_themselves() -> None:
    vectors = normalised(10, 3)
    made = encode(trained_index(f"IVF{NLIST},Flat"), vectors, 100, batch_rows=8)
    assert (made.codes.view(np.float32) == vectors).all()
    assert made.ids.tolist() == list(range(100, 110))


@pytest.mark.parametrize("key", ["Flat", "IVF_HNSW8,PQ8np", "PCA16,IVF,SQ8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_named(key: str, value: float) -> None:
    vectors = normalised(30, 4)
    vectors[21, 5] = value
    with pytest.raises(PixdexError, match="id 1021 is not finite"):
        encode(trained_index(factory_key(key)), vectors, 1000, batch_rows=16)


def test_no_vectors_make_no_codes() -> None:
    empty: NDArray[np.float32] = np.empty((0, DIMENSION), np.float32)
    made = encode(trained_index(f"IVF{NLIST},PQ8np"), empty, batch_rows=16)
    assert made.ids.shape == made.list_nos.shape == (0,) and made.codes.shape == (0, 8)


def test_vectors_of_another_shape_are_refused() -> None:
    index = trained_index(f"IVF{NLIST},Flat")
    with pytest.raises(ValueError, match="dimension 32"):
        encode(index, np.zeros((2, 31), np.float32), batch_rows=16)
    assert isinstance(index, faiss.Index)
