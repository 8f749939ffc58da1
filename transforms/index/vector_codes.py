"""Vectors as codes of an `.ivf` file: float16 or float32, little-endian, component by component."""

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.worker_threads import limited_here


def to_codes(vectors: NDArray[np.float32], *, half: bool) -> NDArray[np.uint8]:
    """Returns the codes, uint8 `(n, 2·d or 4·d)`, of vectors, float32 `(n, d)`; `half` rounds them to float16.

    All threads that this thread may use do so.
    """
    if not half:
        return np.ascontiguousarray(vectors, "<f4").view(np.uint8)
    codes: NDArray[np.uint8] = _quantizer(vectors.shape[1]).compute_codes(np.ascontiguousarray(vectors))
    return codes


def from_codes(codes: NDArray[np.uint8], dim: int, workers: int = 1) -> NDArray[np.float32]:
    """Returns the vectors, float32 `(n, dim)`, of codes of either width; at most `workers` threads convert them."""
    if codes.shape[1] == 4 * dim:
        return np.ascontiguousarray(codes).view("<f4")
    with limited_here(workers):
        vectors: NDArray[np.float32] = _quantizer(dim).decode(codes)
    return vectors


def _quantizer(dim: int) -> faiss.ScalarQuantizer:
    # numpy's conversion of float16 runs on one thread, at about a third of the speed of faiss's on two.
    return faiss.ScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16)
