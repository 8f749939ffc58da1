"""Passes of Lloyd's algorithm over all lists, after the cells: they win back what two levels lose to flat k-means.

In a pass every row looks into the centroids of its nearest few cells. A task does so for a group of cells and writes
sums over the lists that its rows chose; then the sums of all groups are added, in the order of the groups, and the
centroids move.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import TwoLevelAssigner
from transforms.index.threads import each_with_one_thread
from transforms.index.training.clustering import on_sphere
from transforms.index.training.figures import PASS_CELLS

_SUMMED_AT_ONCE: Final = 4096


@dataclass(frozen=True)
class ListSums:
    """Sums over the rows of some lists.

    Attributes:
        lists: int64 `(k,)`, ascending: the lists that have rows.
        counts: int64 `(k,)`, their rows.
        sums: float32 `(k, d)`, the sums of these.
        squares: float64 `(1,)`, the squared norms of all rows together.
        distinct: int64 `(k,)`, how many of their rows no other row stands for (`training.copies`).
    """

    lists: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.float32]
    squares: NDArray[np.float64]
    distinct: NDArray[np.int64]

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Takes what `tensors` returned."""
        distinct = tensors.get("distinct", tensors["counts"])  # older files have none
        return cls(tensors["lists"], tensors["counts"], tensors["sums"], tensors["squares"], distinct)

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """As arrays under the names of the attributes."""
        return {
            "lists": self.lists,
            "counts": self.counts,
            "sums": self.sums,
            "squares": self.squares,
            "distinct": self.distinct,
        }


@dataclass(frozen=True)
class Moved:
    """What a pass made: `centroids` float32 `(nlist, d)`, and `counts` int64 `(nlist,)`, the rows of each list.

    `objective` is the mean inner product of the rows with their moved centroids if spherical, else the mean squared
    distance. `distinct` int64 `(nlist,)` counts the rows of each list that no other row stands for.
    """

    centroids: NDArray[np.float32]
    counts: NDArray[np.int64]
    objective: float
    distinct: NDArray[np.int64]

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Takes what `tensors` returned."""
        distinct = tensors.get("distinct", tensors["counts"])
        return cls(tensors["centroids"], tensors["counts"], float(tensors["objective"][0]), distinct)

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """As arrays under the names of the attributes; `objective` float64 `(1,)`."""
        return {
            "centroids": self.centroids,
            "counts": self.counts,
            "objective": np.array([self.objective]),
            "distinct": self.distinct,
        }


def sum_lists(
    vectors: NDArray[np.float32],
    lists: NDArray[np.int64],
    workers: int = 1,
    weights: NDArray[np.int64] | None = None,
) -> ListSums:
    """Sums vectors, float32 `(n, d)`, list by list; `lists` int64 `(n,)`. The number of threads changes no bit.

    A row counts as many times as its weight says, int64 `(n,)`; without weights, once.
    """
    order = np.argsort(lists, kind="stable")
    occupied, first, counts = np.unique(lists[order], return_index=True, return_counts=True)
    sums = np.empty((len(occupied), vectors.shape[1]), np.float32)
    ends, start = first + counts, 0
    cuts = []
    while start < len(occupied):  # some lists at a time: new memory costs more than the sums
        stop = max(start + 1, int(np.searchsorted(ends, first[start] + _SUMMED_AT_ONCE, side="right")))
        cuts.append((start, stop))
        start = stop

    def add(cut: tuple[int, int]) -> None:
        start, stop = cut
        some = order[first[start] : ends[stop - 1]]
        rows = vectors[some] if weights is None else vectors[some] * weights[some, None].astype(np.float32)
        np.add.reduceat(rows, first[start:stop] - first[start], axis=0, out=sums[start:stop])

    with each_with_one_thread(workers) as pool:
        for _ in pool.map(add, cuts):
            pass
    norms = np.einsum("ij,ij->i", vectors, vectors)
    if weights is None:
        return ListSums(occupied, counts, sums, np.array([norms.sum(dtype=np.float64)]), counts)
    weighted = np.add.reduceat(weights[order], first) if len(first) else counts
    return ListSums(occupied, weighted, sums, np.array([norms.astype(np.float64) @ weights]), counts)


def look(
    assigner: TwoLevelAssigner,
    vectors: NDArray[np.float32],
    workers: int = 1,
    weights: NDArray[np.int64] | None = None,
) -> ListSums:
    """One group's part of a pass, by so many threads, whose number changes no bit; `weights` as in `sum_lists`."""
    bounds = np.linspace(0, len(vectors), workers + 1).astype(np.int64)
    parts = [vectors[start:stop] for start, stop in itertools.pairwise(bounds)]
    with each_with_one_thread(workers) as pool:
        lists = np.concatenate(list(pool.map(lambda part: assigner.assign(part, PASS_CELLS), parts)))
        return sum_lists(vectors, lists, workers, weights)


def move(parts: Iterable[ListSums], centroids: NDArray[np.float32], *, spherical: bool) -> Moved:
    """Moves every centroid to the mean of its rows; one without rows stays. `parts` come in the order of the groups."""
    sums, counts, squares = np.zeros_like(centroids), np.zeros(len(centroids), np.int64), 0.0
    distinct = np.zeros_like(counts)
    for part in parts:
        sums[part.lists] += part.sums
        counts[part.lists] += part.counts
        distinct[part.lists] += part.distinct
        squares += float(part.squares[0])
    occupied = counts > 0
    moved = np.where(occupied[:, None], sums / np.maximum(counts, 1)[:, None].astype(np.float32), centroids)
    moved = on_sphere(moved.astype(np.float32, copy=False), spherical)
    products = float(np.einsum("ij,ij->i", sums, moved).sum(dtype=np.float64))
    rows = max(int(counts.sum()), 1)
    if spherical:
        return Moved(moved, counts, products / rows, distinct)
    norms = float((counts * np.einsum("ij,ij->i", moved, moved)).sum(dtype=np.float64))
    return Moved(moved, counts, (squares - 2 * products + norms) / rows, distinct)


def imbalance(counts: NDArray[np.number]) -> float:
    """Imbalance of rows over lists: 1 when all are alike (faiss's `InvertedLists::imbalance_factor`)."""
    sizes = counts.astype(np.float64)
    return float((sizes**2).sum() * len(sizes) / max(sizes.sum(), 1) ** 2)
