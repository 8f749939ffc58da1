"""Vectors as codes of an `.ivf` file: float16 or float32, little-endian, component by component."""

from collections.abc import Iterator
from typing import BinaryIO, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.lists.format import FENCE_BYTES, ID_BYTES, ListSizes, Seal, fence_spacing
from transforms.index.lists.writer import ListWriter
from transforms.index.threads import limited_here

_CHUNK: Final = 1 << 20  # stays in the CPU's cache between gather, checksum and write


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


def write_vectors(
    out: BinaryIO, *, list_nos: NDArray[np.integer], codes: NDArray[np.uint8], ids: NDArray[np.int64], nlist: int
) -> Seal:
    """Writes an `.ivf` file of vectors that come in any order: as `write_lists` does, which is for short codes.

    `list_nos` `(n,)`, `codes` uint8 `(n, …)`, `ids` int64 `(n,)`, each once. Memory beside these: 16 bytes a row, and
    some vectors on their way, instead of a second copy.
    """
    narrow = list_nos.astype(np.min_scalar_type(nlist - 1), copy=False)
    in_order = (np.diff(ids) > 0).all()  # then a sort of 16-bit numbers is enough, a radix sort
    order = np.argsort(narrow, kind="stable") if in_order else np.lexsort((ids, narrow))
    sizes = np.bincount(narrow, minlength=nlist)
    occupied = np.flatnonzero(sizes)
    size = codes.shape[1]
    lists = range(nlist)
    spacing = fence_spacing(lists, len(ids) * (size + ID_BYTES), FENCE_BYTES)
    writer = ListWriter(out, nlist=nlist, lists=lists, code_size=size, fingerprint="", spacing=spacing)
    writer.append(ListSizes(occupied, sizes[occupied]), _bodies(codes, ids, order, np.cumsum(sizes[occupied])))
    return writer.finish((int(ids.min()), int(ids.max())) if len(ids) else (0, -1))


def _bodies(
    codes: NDArray[np.uint8], ids: NDArray[np.int64], order: NDArray[np.integer], ends: NDArray[np.int64]
) -> Iterator[memoryview]:
    """The bodies of lists that end at these places of the order: the codes of each, and its ids."""
    at_once, start = max(1, _CHUNK // codes.shape[1]), 0
    for stop in ends.tolist():
        rows = order[start:stop]
        for first in range(0, len(rows), at_once):
            yield codes[rows[first : first + at_once]].data
        yield ids[rows].astype("<i8", copy=False).data
        start = stop


def _quantizer(dim: int) -> faiss.ScalarQuantizer:
    # numpy's conversion of float16 runs on one thread, at about a third of the speed of faiss's on two.
    return faiss.ScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16)
