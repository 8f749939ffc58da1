"""Brings the sample behind the transforms of the index, and each row to the cell of its nearest parent.

The routed sample lies in `.ivf` files whose lists are the cells, so that a task that clusters some cells reads them as
one range of bytes from each file, and no vector is shuffled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import padded
from transforms.index.clustering import nearest
from transforms.index.list_format import Seal
from transforms.index.list_writer import write_lists
from transforms.index.vector_codes import to_codes
from transforms.index.vector_transforms import behind_transforms
from transforms.index.worker_threads import each_with_one_thread

SLOT_ROWS: Final = 4096


@dataclass(frozen=True)
class Router:
    """What the first level of training found.

    Attributes:
        index: the index as far as it is trained: its transforms are, its lists and codes are not.
        parents: float32 `(cells, d)`, behind the transforms.
        spherical: nearest by inner product, else by L2.
    """

    index: faiss.Index
    parents: NDArray[np.float32]
    spherical: bool

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], *, spherical: bool) -> Self:
        """Takes what `tensors` returned."""
        return cls(faiss.deserialize_index(tensors["index"]), tensors["parents"], spherical)

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """As arrays: `index` uint8, the bytes of a faiss file, and `parents`."""
        return {"index": faiss.serialize_index(self.index), "parents": self.parents}

    def route(self, vectors: NDArray[np.float32], workers: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns every vector behind the transforms, float32 `(n, d)`, and its cell, int64 `(n,)`.

        Work goes in slots of exactly 4,096 rows, the last one padded, because a matrix product of another shape rounds
        differently: a row's cell does not depend on the block that it came in, nor on how many threads there are.
        """
        moved = np.empty((len(vectors), self.parents.shape[1]), np.float32)
        cells = np.empty(len(vectors), np.int64)

        def one(start: int) -> None:
            rows = slice(start, min(start + SLOT_ROWS, len(vectors)))
            behind = behind_transforms(self.index, padded(vectors[rows], SLOT_ROWS))
            moved[rows] = behind[: rows.stop - start]
            cells[rows] = nearest(behind, self.parents, spherical=self.spherical)[: rows.stop - start]

        with each_with_one_thread(workers) as pool:
            for _ in pool.map(one, range(0, len(vectors), SLOT_ROWS)):
                pass
        return moved, cells


def write_routed(
    out: BinaryIO,
    router: Router,
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    *,
    half: bool,
    workers: int = 1,
) -> Seal:
    """Writes sampled rows as lists over the cells; `half` stores them as float16."""
    moved, cells = router.route(vectors, workers)
    codes = to_codes(moved, half=half)
    return write_lists(out, list_nos=cells, codes=codes, ids=ids, nlist=len(router.parents), fingerprint="")
