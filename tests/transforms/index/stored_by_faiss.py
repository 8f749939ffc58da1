"""What faiss itself stores of vectors: what our encoding, and the files made of entries, are held against."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray


def stored_by_faiss(
    index: faiss.Index, vectors: NDArray[np.float32], batch_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Lists and codes of vectors, float32 `(n, d)`, as `add_with_ids` stores them, `batch_rows` at a time."""
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))  # what it has depends on the key
    chain: Any = getattr(index, "chain", None)
    list_nos, codes = np.empty(len(vectors), np.int64), np.zeros((len(vectors), inner.code_size), np.uint8)
    for start in range(0, len(vectors), batch_rows):
        rows = slice(start, start + batch_rows)
        some = vectors[rows]
        for step in range(chain.size() if chain else 0):
            some = chain.at(step).apply(some)
        found = np.ascontiguousarray(inner.quantizer.search(some, 1)[1][:, 0])
        out = np.zeros((len(some), inner.code_size), np.uint8)
        # The arrays have names that outlive the call: swig_ptr does not keep them alive.
        inner.encode_vectors(len(some), faiss.swig_ptr(some), faiss.swig_ptr(found), faiss.swig_ptr(out), False)
        list_nos[rows], codes[rows] = found, out
    return list_nos, codes
