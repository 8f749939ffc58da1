"""Brings the sample behind the transforms of the index, and each row to the cell of its nearest parent.

The routed sample lies in `.ivf` files whose lists are the cells, so that a task that clusters some cells reads them as
one range of bytes from each file, and no vector is shuffled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import padded
from transforms.index.lists.format import Seal
from transforms.index.threads import each_with_one_thread
from transforms.index.training.clustering import nearest
from transforms.index.training.copies import Copies
from transforms.index.training.vector_codes import from_codes, to_codes, write_vectors
from transforms.index.vector_transforms import behind_transforms

SLOT_ROWS: Final = 4096


@dataclass(frozen=True)
class Router:
    """What the first level of training found.

    Attributes:
        index: the index as far as it is trained: its transforms are, its lists and codes are not.
        parents: float32 `(cells, d)`, behind the transforms.
        spherical: nearest by inner product, else by L2.
        copies: rows that others stand for.
        head: float32 `(d, m)`, orthonormal columns: the directions of largest variance behind the transforms, by which
            rows of a cell are clustered; None where there are few components, and all are taken.
    """

    index: faiss.Index
    parents: NDArray[np.float32]
    spherical: bool
    copies: Copies = field(default_factory=Copies.none)
    head: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], *, spherical: bool) -> Self:
        """Takes what `tensors` returned."""
        index, copies = faiss.deserialize_index(tensors["index"]), Copies.of(tensors)
        return cls(index, tensors["parents"], spherical, copies, tensors.get("head"))

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """As arrays: `index` uint8, the bytes of a faiss file, `parents`, and those of the copies and the head."""
        head = {} if self.head is None else {"head": self.head}
        return {"index": faiss.serialize_index(self.index), "parents": self.parents, **self.copies.tensors, **head}

    @property
    def bounded(self) -> bool:
        """Whether the transforms leave vectors of length one about as long: all but whitening, as PCAW is."""
        if not isinstance(self.index, faiss.IndexPreTransform):
            return True
        chain: Any = self.index.chain  # a std::vector, not the list that faiss's stubs say
        steps = (faiss.downcast_VectorTransform(chain.at(step)) for step in range(chain.size()))
        return not any(isinstance(step, faiss.PCAMatrix) and step.eigen_power != 0 for step in steps)

    def route(self, stored: Sequence[NDArray[np.uint8]], *, half: bool, workers: int = 1) -> "Routed":
        """Brings vectors behind the transforms and to their cells.

        Work goes in slots of exactly 4,096 rows, the last one padded, because a matrix product of another shape rounds
        differently: a row's cell does not depend on the block that it came in, nor on how many threads there are.

        Args:
            stored: codes of float16 or float32 vectors, as they were sampled, each `(n, …)`.
            half: whether the codes that come out are of float16.
            workers: threads; each has a slot before and behind the transforms in memory.
        """
        dim, cells = self.parents.shape[1], len(self.parents)
        ends = np.cumsum([len(codes) for codes in stored])
        moved = np.empty((int(ends[-1]), (2 if half else 4) * dim), np.uint8)
        nearest_cells = np.empty(len(moved), np.min_scalar_type(cells - 1))

        def one(codes: NDArray[np.uint8], start: int) -> None:
            rows = slice(start, start + len(codes))
            behind = behind_transforms(self.index, padded(from_codes(codes, self.index.d), SLOT_ROWS))
            moved[rows] = to_codes(behind[: len(codes)], half=half)
            nearest_cells[rows] = nearest(behind, self.parents, spherical=self.spherical)[: len(codes)]

        slots = [
            (codes[first : first + SLOT_ROWS], int(end) - len(codes) + first)
            for codes, end in zip(stored, ends, strict=True)
            for first in range(0, len(codes), SLOT_ROWS)
        ]
        with each_with_one_thread(workers) as pool:
            for _ in pool.map(lambda slot: one(*slot), slots):
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
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.uint8]]],
    *,
    half: bool,
    workers: int = 1,
) -> tuple[int, Seal]:
    """Writes sampled rows as lists over the cells, without those that another row stands for.

    Args:
        out: takes an `.ivf` file.
        router: what brings them there.
        parts: ids int64 `(n,)` and codes uint8 `(n, …)` of the rows; at least one.
        half: stores them as float16, where the transforms are `bounded`: others can leave its range.
        workers: threads, whose number changes no bit.

    Returns:
        How many rows these are, and the seal of the file.

    Memory: the codes as they come and as they are written, 32 bytes a row, and for each thread 4,096 vectors before and
    behind the transforms.
    """
    kept = [_distinct(router, ids, codes) for ids, codes in parts]
    routed = router.route([codes for _, codes in kept], half=half and router.bounded, workers=workers)
    ids = np.concatenate([of_part for of_part, _ in kept])
    seal = write_vectors(out, list_nos=routed.cells, codes=routed.codes, ids=ids, nlist=len(router.parents))
    return len(ids), seal


def _distinct(
    router: Router, ids: NDArray[np.int64], codes: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The rows that no other stands for. Memory: those of a slot, and the codes once more where there are copies."""
    if not len(router.copies):
        return ids, codes
    slots = (slice(first, first + SLOT_ROWS) for first in range(0, len(ids), SLOT_ROWS))
    kept = np.concatenate(
        [
            np.empty(0, np.bool_),
            *(router.copies.are_distinct(ids[rows], from_codes(codes[rows], router.index.d)) for rows in slots),
        ]
    )
    return (ids, codes) if kept.all() else (ids[kept], codes[kept])
