"""The second level of training: cells of the routed sample, some consecutive ones together, become centroids."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.index.clustering import kmeans, share_out
from transforms.index.list_file import ListFile
from transforms.index.vector_codes import from_codes
from transforms.index.worker_threads import each_with_one_thread
from transforms.records import FileReference
from transforms.store import Store

GROUP_ROWS = 65_536
"""Rows of a group of cells, at least: small trainings have few tasks, and a task holds little more than these."""


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
    """Rows of some cells: `vectors` float32 `(n, d)`, cell by cell; the i-th has rows `bounds[i]:bounds[i + 1]`."""

    vectors: NDArray[np.float32]
    bounds: NDArray[np.int64]


def cell_sizes(store: Store, files: Sequence[FileReference], cells: int) -> NDArray[np.int64]:
    """Counts the rows of every cell, int64 `(cells,)`, in the routed sample."""
    sizes = np.zeros(cells, np.int64)
    for file in files:
        with store.open(file.path) as stream:
            stored = ListFile(stream, file.path).sizes()
        sizes[stored.list_nos] += stored.sizes
    return sizes


def group_cells(sizes: NDArray[np.int64], nlist: int, group_rows: int = GROUP_ROWS) -> list[CellGroup]:
    """Cuts the cells into groups of at least `group_rows` rows, and shares the centroids out among all of them."""
    centroids = share_out(sizes, nlist).tolist()
    groups: list[CellGroup] = []
    first = rows = 0
    for cell, size in enumerate(sizes.tolist()):
        rows += size
        if rows >= group_rows or cell + 1 == len(sizes):
            groups.append(CellGroup(len(groups), first, tuple(centroids[first : cell + 1])))
            first, rows = cell + 1, 0
    return groups


def bounds_of(groups: Sequence[CellGroup]) -> NDArray[np.int64]:
    """Where the centroids of each cell start, and the last ones end: int64 `(cells + 1,)`."""
    return np.append(0, np.cumsum([count for group in groups for count in group.centroids]))


def read_cells(store: Store, files: Sequence[FileReference], cells: range, dim: int) -> CellRows:
    """Reads the rows of some cells from every file of the routed sample, those of a cell in the order of their ids."""
    nos, ids, codes = [], [], []
    for file in files:
        with store.open(file.path) as stream:
            found, found_codes, found_ids = ListFile(stream, file.path).read(cells).unpack()
        nos.append(found)
        ids.append(found_ids)
        codes.append(found_codes)
    cell = np.concatenate(nos)
    order = np.lexsort((np.concatenate(ids), cell))
    edges = np.searchsorted(cell[order], np.arange(cells.start, cells.stop + 1))
    return CellRows(from_codes(np.concatenate(codes)[order], dim), edges)


def cluster_cells(
    rows: CellRows, group: CellGroup, *, spherical: bool, seed: int, workers: int = 1
) -> NDArray[np.float32]:
    """Clusters each cell of a group on its own: float32 `(sum of the group's centroids, d)`, cell by cell.

    The seed of a cell follows from the request's and its number, not from the group; `workers` threads have a cell
    each, and their number changes no bit.
    """

    def cluster(place: int) -> NDArray[np.float32]:
        members = rows.vectors[int(rows.bounds[place]) : int(rows.bounds[place + 1])]
        count = group.centroids[place]
        if not count:
            return np.empty((0, members.shape[1]), np.float32)
        return kmeans(members, count, spherical=spherical, seed=seed + group.cells[place])

    with each_with_one_thread(workers) as pool:
        return np.concatenate(list(pool.map(cluster, range(len(group.centroids)))))
