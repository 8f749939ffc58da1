"""Passes of Lloyd's algorithm over all lists, after the cells: they win back what two levels lose to flat k-means.

In a pass every row looks at all lists of its cell, and then at those that are nearest to the best of these: what is
near a row is near its list (k²-means: Agustsson, Timofte, Van Gool, CVPR 2017). A task does so for a group of cells and
writes sums over the lists that its rows chose; then the sums of all groups are added, in the order of the groups, and
the centroids move.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import TwoLevelAssigner
from transforms.index.threads import each_with_one_thread
from transforms.index.training.cells import CellRows
from transforms.index.training.clustering import on_sphere
from transforms.index.training.figures import PASS_CELLS, PASS_LISTS
from transforms.index.training.lloyd import nearest_of, sums_by_list

_ROWS_AT_ONCE: Final = 4096


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
    vectors: NDArray[np.float32], lists: NDArray[np.int64], weights: NDArray[np.int64] | None = None
) -> ListSums:
    """Sums vectors, float32 `(n, d)`, list by list; `lists` int64 `(n,)`.

    A row counts as many times as its weight says, int64 `(n,)`; without weights, once.
    """
    occupied, rows, sums = sums_by_list(vectors, lists, weights)
    norms = np.einsum("ij,ij->i", vectors, vectors)
    if weights is None:
        return ListSums(occupied, rows, sums, np.array([norms.sum(dtype=np.float64)]), rows)
    counts = np.zeros(int(lists.max(initial=-1)) + 1, np.int64)
    np.add.at(counts, lists, weights)
    return ListSums(occupied, counts[occupied], sums, np.array([norms.astype(np.float64) @ weights]), rows)


def joined(parts: Sequence[ListSums]) -> ListSums:
    """Adds sums of different rows, one at least, in their order."""
    lists = np.unique(np.concatenate([part.lists for part in parts]))
    counts, distinct = np.zeros_like(lists), np.zeros_like(lists)
    sums, squares = np.zeros((len(lists), parts[0].sums.shape[1]), np.float32), 0.0
    for part in parts:
        places = np.searchsorted(lists, part.lists)
        sums[places] += part.sums
        counts[places] += part.counts
        distinct[places] += part.distinct
        squares += float(part.squares[0])
    return ListSums(lists, counts, sums, np.array([squares]), distinct)


def look(
    assigner: TwoLevelAssigner,
    rows: CellRows,
    first_cell: int,
    workers: int = 1,
    weights: NDArray[np.int64] | None = None,
) -> ListSums:
    """One group's part of a pass, by so many threads, whose number changes no bit.

    Args:
        assigner: the lists, cell by cell.
        rows: of the group.
        first_cell: of the group.
        workers: threads; each has a block of rows of one cell.
        weights: as in `sum_lists`.

    Memory: a copy of a block a thread, and sums over the lists that each block's rows chose.
    """
    blocks = [
        (place, slice(first, min(first + _ROWS_AT_ONCE, int(stop))))
        for place, (start, stop) in enumerate(zip(rows.bounds[:-1], rows.bounds[1:], strict=True))
        for first in range(int(start), int(stop), _ROWS_AT_ONCE)
    ] or [(0, slice(0, 0))]

    def one(block: tuple[int, slice]) -> ListSums:
        place, some = block
        cell = slice(int(assigner.bounds[first_cell + place]), int(assigner.bounds[first_cell + place + 1]))
        vectors, weighted = rows.vectors[some], None if weights is None else weights[some]
        if cell.stop == cell.start:
            return sum_lists(vectors, _nearest(assigner, vectors, near[place][0]), weighted)
        best = nearest_of(vectors, assigner.centroids[cell], spherical=assigner.spherical)
        order = np.argsort(best, kind="stable")
        vectors, weighted = vectors.take(order, axis=0), None if weighted is None else weighted[order]
        edges = np.append(0, np.cumsum(np.bincount(best, minlength=cell.stop - cell.start))).tolist()
        lists = np.empty(len(vectors), np.int64)
        for number, (start, stop) in enumerate(itertools.pairwise(edges)):
            if start < stop:
                lists[start:stop] = _nearest(assigner, vectors[start:stop], near[place][number])
        return sum_lists(vectors, lists, weighted)

    cells = range(first_cell, first_cell + len(rows.bounds) - 1)
    with each_with_one_thread(workers) as pool:
        near = list(pool.map(lambda cell: lists_near(assigner, cell), cells))
        return joined(list(pool.map(one, blocks)))


def lists_near(assigner: TwoLevelAssigner, cell: int) -> NDArray[np.int64]:
    """Returns for each list of a cell those that its rows look at, int64 `(lists, 128)`, each row of them ascending.

    They are looked for among the lists that are nearest to the parent of the cell, as many as sixteen cells have and
    the cell itself. A cell without lists has one row, of lists near its parent.
    """
    centroids, nlist = assigner.centroids, len(assigner.centroids)
    own = np.arange(assigner.bounds[cell], assigner.bounds[cell + 1])
    wanted = min(len(own) + -(-PASS_CELLS * nlist // len(assigner.parents)), nlist)
    scores = _scores(assigner, assigner.parents[cell : cell + 1], slice(None))
    scores[:, own] = np.inf
    pool = np.sort(_best(scores, wanted)[0])
    near = min(PASS_LISTS, len(pool))
    if not len(own):
        return np.sort(_best(scores, near))
    return np.asarray(np.sort(pool[_best(_scores(assigner, centroids[own], pool), near)]))


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the `count` highest scores in each row, in no order."""
    if count == scores.shape[1]:
        return np.broadcast_to(np.arange(count), scores.shape)
    return np.argpartition(scores, scores.shape[1] - count, axis=1)[:, scores.shape[1] - count :]


def _scores(
    assigner: TwoLevelAssigner, vectors: NDArray[np.float32], lists: NDArray[np.int64] | slice
) -> NDArray[np.float32]:
    centroids = assigner.centroids[lists]
    scores: NDArray[np.float32] = vectors @ centroids.T
    if not assigner.spherical:
        scores -= 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    return scores


def _nearest(assigner: TwoLevelAssigner, vectors: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = lists[_scores(assigner, vectors, lists).argmax(axis=1)]
    return found


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
