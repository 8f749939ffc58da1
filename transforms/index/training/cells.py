"""The second level of training: cells of the routed sample, some consecutive ones together, become centroids."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.lists.format import ListSizes
from transforms.index.lists.opened import opened_lists
from transforms.index.threads import each_limited
from transforms.index.training.clustering import kmeans, on_sphere, share_out
from transforms.index.training.figures import GROUP_ROWS
from transforms.index.training.lloyd import lloyd, sums_by_list
from transforms.index.training.vector_codes import from_codes
from transforms.records import FileReference
from transforms.storage.store import Store

_READERS: Final = 8
"""Files that are read at once: of a block each a task needs some small ranges of bytes, often from far away."""


@dataclass(frozen=True)
class CellGroup:
    """Consecutive cells that one task clusters.

    Attributes:
        number: of the group, in the order of the cells.
        first_cell: the first of them.
        centroids: how many centroids each of them gets.
    """

    number: int
    first_cell: int
    centroids: tuple[int, ...]

    @property
    def cells(self) -> range:
        """The numbers of its cells."""
        return range(self.first_cell, self.first_cell + len(self.centroids))


@dataclass(frozen=True)
class CellRows:
    """Rows of some cells: `vectors` float32 `(n, d)` and `ids` int64 `(n,)`, cell by cell.

    The i-th has rows `bounds[i]:bounds[i + 1]`.
    """

    vectors: NDArray[np.float32]
    bounds: NDArray[np.int64]
    ids: NDArray[np.int64]


def cell_sizes(store: Store, files: Sequence[FileReference], cells: int) -> NDArray[np.int64]:
    """Counts the rows of every cell, int64 `(cells,)`, in the routed sample."""
    sizes = np.zeros(cells, np.int64)

    def read(file: FileReference) -> ListSizes:
        with opened_lists(store, file) as lists:
            return lists.sizes()

    with ThreadPoolExecutor(_READERS) as pool:
        for stored in pool.map(read, files):
            sizes[stored.list_nos] += stored.sizes
    return sizes


def group_cells(sizes: NDArray[np.int64], nlist: int, group_rows: int = GROUP_ROWS) -> list[CellGroup]:
    """Cuts the cells into groups of at least `group_rows` rows, and shares the centroids out among all of them.

    Where rows are fewer than centroids, which happens if most rows were copies, the largest cell gets what is over.
    """
    shares = share_out(sizes, min(nlist, int(sizes.sum())))
    shares[int(sizes.argmax())] += nlist - int(shares.sum())
    centroids = shares.tolist()
    groups: list[CellGroup] = []
    first = rows = 0
    for cell, size in enumerate(sizes.tolist()):
        rows += size
        if rows >= group_rows or cell + 1 == len(sizes):
            groups.append(CellGroup(len(groups), first, tuple(centroids[first : cell + 1])))
            first, rows = cell + 1, 0
    return groups


def read_cells(store: Store, files: Sequence[FileReference], cells: range, dim: int, workers: int = 1) -> CellRows:
    """Reads the rows of some cells from every file of the routed sample, those of a cell in the order of their ids.

    Several files are read at a time, and converted by at most `workers` threads. Memory: the vectors, and their codes
    three times before.
    """

    def read(file: FileReference) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        with opened_lists(store, file) as lists:
            return lists.read(cells).unpack()

    with ThreadPoolExecutor(_READERS) as pool:
        nos, codes, ids = zip(*pool.map(read, files), strict=True)
    cell, numbers = np.concatenate(nos), np.concatenate(ids)
    order = np.lexsort((numbers, cell))
    edges = np.searchsorted(cell[order], np.arange(cells.start, cells.stop + 1))
    return CellRows(from_codes(np.concatenate(codes)[order], dim, workers), edges, numbers[order])


def cluster_cells(
    rows: CellRows,
    group: CellGroup,
    *,
    spherical: bool,
    seed: int,
    head: NDArray[np.float32] | None = None,
    workers: int = 1,
) -> NDArray[np.float32]:
    """Clusters each cell of a group on its own: float32 `(sum of the group's centroids, d)`, cell by cell.

    The seed of a cell follows from the request's and its number, not from the group. `workers` threads have a cell
    each; where one cell is most of the work, or cells are fewer than threads, a cell has several of them, whose number
    may change the last bits. Where `head` is given, float32 `(d, m)` with orthonormal columns, rows are compared by
    their components along these; centroids are means of whole rows.
    """

    def cluster(place: int) -> NDArray[np.float32]:
        members = rows.vectors[int(rows.bounds[place]) : int(rows.bounds[place + 1])]
        count, own = group.centroids[place], seed + group.cells[place]
        if not count:
            return np.empty((0, members.shape[1]), np.float32)
        if count == 1 or len(members) < count:
            return kmeans(members, count, spherical=spherical, seed=own)
        lists = lloyd(members if head is None else members @ head, count, spherical=spherical, seed=own)
        occupied, counts, sums = sums_by_list(members, lists)
        centroids = np.resize(members, (count, members.shape[1]))  # a list without rows has a row for a centroid
        centroids[occupied] = sums / counts[:, None].astype(np.float32)
        return on_sphere(centroids, spherical)

    at_once = cells_at_once(np.diff(rows.bounds) * np.array(group.centroids), workers)
    with each_limited(at_once, workers // at_once) as pool:
        return np.concatenate(list(pool.map(cluster, range(len(group.centroids)))))


def cells_at_once(work: NDArray[np.int64], workers: int) -> int:
    """Returns how many cells of so much work, int64 `(cells,)`, keep `workers` threads busy, 1 to `workers`.

    >>> cells_at_once(np.array([5, 5, 5, 5]), 2), cells_at_once(np.array([9, 1, 1]), 4), cells_at_once(np.array([3]), 4)
    (2, 1, 1)
    """
    return int(min(max(work.sum() // max(work.max(), 1), 1), workers))
