"""What a vector is in the index: its list and its code, the same for the same slot of a block, whoever computes it."""

from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError

BATCH_ROWS: Final = 4096


def encode_block(
    index: faiss.Index, vectors: NDArray[np.float32], ids: NDArray[np.int64], batch_rows: int = BATCH_ROWS
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Lists int64 (n,) and codes uint8 (n, code_size) that the trained `index` stores for `vectors` float32 (n, d).

    Vector transform, nearest list by the coarse quantizer, then the inner IVF's own `encode_vectors`, which is what
    `add_with_ids` stores. Work goes in slots of exactly `batch_rows`, the last one padded with zeros, because a matrix
    product of another shape rounds differently: calls cut at multiples of `batch_rows` give the same bytes as one
    call. So `batch_rows` belongs to the plan. Larger slots keep matrix products efficient, and cost two copies of a
    slot; faiss computes the distances to the centroids in blocks of its own.

    Raises PixdexError with position and id for a vector that is not finite or that no list takes.
    """
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != index.d or len(vectors) != len(ids):
        raise ValueError(
            f"vectors {vectors.dtype} {vectors.shape} with {len(ids)} ids, for an index of dimension {index.d}"
        )
    ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))  # Any: faiss's stubs know no members of it
    list_nos = np.empty(len(vectors), np.int64)
    codes = np.empty((len(vectors), ivf.code_size), np.uint8)
    for start in range(0, len(vectors), batch_rows):
        slot = np.zeros((batch_rows, index.d), np.float32)
        rows = slice(start, min(start + batch_rows, len(vectors)))
        used = rows.stop - rows.start
        slot[:used] = vectors[rows]
        finite = np.asarray(np.isfinite(slot).all(axis=1))
        # Padding in the place of what is refused below: a NaN must not reach the quantizer, where HNSW would wander.
        slot[~finite] = 0
        lists, encoded = _encode_slot(index, ivf, slot)
        refused = np.flatnonzero(~finite[:used] | (lists[:used] < 0))
        if len(refused):
            where = start + int(refused[0])
            what = f"vector {where} (id {ids[where]}) has no list: it is not finite, or the quantizer found none"
            raise PixdexError(f"{what} ({len(refused)} of {used} in its batch); reject it before the add")
        list_nos[rows], codes[rows] = lists[:used], encoded[:used]
    return list_nos, codes


def _encode_slot(
    index: faiss.Index, ivf: Any, slot: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    transformed = slot
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain  # a std::vector, not the list that faiss's stubs say
        for step in range(chain.size()):
            transformed = chain.at(step).apply(transformed)
    transformed = np.ascontiguousarray(transformed, np.float32)
    _, nearest = ivf.quantizer.search(transformed, 1)
    lists = np.ascontiguousarray(nearest[:, 0], np.int64)
    codes = np.zeros((len(slot), ivf.code_size), np.uint8)
    # The arrays have names that outlive the call: swig_ptr does not keep them alive.
    ivf.encode_vectors(len(slot), faiss.swig_ptr(transformed), faiss.swig_ptr(lists), faiss.swig_ptr(codes), False)
    return lists, codes
