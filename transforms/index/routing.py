"""Brings the sample behind the transforms of the index, and each row to the cell of its nearest parent.

The routed sample lies in `.ivf` files whose lists are the cells, so that a task that clusters some cells reads them as
one range of bytes from each file, and no vector is shuffled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import padded
from transforms.index.clustering import nearest
from transforms.index.list_format import Seal
from transforms.index.list_writer import write_lists
from transforms.index.vector_codes import from_codes, to_codes
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

    @property
    def bounded(self) -> bool:
        """Whether the transforms leave vectors of length one about as long: all but whitening, as PCAW is."""
        if not isinstance(self.index, faiss.IndexPreTransform):
            return True
        chain: Any = self.index.chain  # a std::vector, not the list that faiss's stubs say
        steps = (faiss.downcast_VectorTransform(chain.at(step)) for step in range(chain.size()))
        return not any(isinstance(step, faiss.PCAMatrix) and step.eigen_power != 0 for step in steps)

    def route(self, codes: NDArray[np.uint8], *, half: bool, workers: int = 1) -> "Routed":
        """Brings vectors behind the transforms and to their cells.

        Work goes in slots of exactly 4,096 rows, the last one padded, because a matrix product of another shape rounds
        differently: a row's cell does not depend on the block that it came in, nor on how many threads there are.

        Args:
            codes: of float16 or float32 vectors, as they were sampled.
            half: whether the codes that come out are of float16.
            workers: threads; each has a slot before and behind the transforms in memory.
        """
        dim, cells = self.parents.shape[1], len(self.parents)
        moved = np.empty((len(codes), (2 if half else 4) * dim), np.uint8)
        nearest_cells = np.empty(len(codes), np.min_scalar_type(cells - 1))

        def one(start: int) -> None:
            rows = slice(start, min(start + SLOT_ROWS, len(codes)))
            count = rows.stop - start
            behind = behind_transforms(self.index, padded(from_codes(codes[rows], self.index.d), SLOT_ROWS))
            moved[rows] = to_codes(behind[:count], half=half)
            nearest_cells[rows] = nearest(behind, self.parents, spherical=self.spherical)[:count]

        with each_with_one_thread(workers) as pool:
            for _ in pool.map(one, range(0, len(codes), SLOT_ROWS)):
                pass
        return Routed(moved, nearest_cells)


@dataclass(frozen=True)
class Routed:
    """Rows behind the transforms: `codes` uint8 `(n, 2·d or 4·d)` of their vectors, and `cells`, unsigned `(n,)`."""

    codes: NDArray[np.uint8]
    cells: NDArray[np.unsignedinteger]


def write_routed(
    out: BinaryIO,
    router: Router,
    parts: Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]],
    *,
    half: bool,
    workers: int = 1,
) -> tuple[int, Seal]:
    """Writes sampled rows as lists over the cells.

    Args:
        out: takes an `.ivf` file.
        router: what brings them there.
        parts: ids int64 `(n,)` and codes uint8 `(n, …)` of the rows, one after the other.
        half: stores them as float16, where the transforms are `bounded`: others can leave its range.
        workers: threads, whose number changes no bit.

    Returns:
        How many rows these are, and the seal of the file.

    Memory: the codes of one part as they come and of all as they are written, these twice for a moment; a slot of
    4,096 vectors before and behind the transforms a thread; then what `write_lists` takes.
    """
    half = half and router.bounded
    ids, routed = [], []
    for found, codes in parts:
        ids.append(found)
        routed.append(router.route(codes, half=half, workers=workers))
    codes, cells = np.concatenate([part.codes for part in routed]), np.concatenate([part.cells for part in routed])
    del routed
    found = np.concatenate(ids)
    seal = write_lists(out, list_nos=cells, codes=codes, ids=found, nlist=len(router.parents), fingerprint="")
    return len(found), seal
