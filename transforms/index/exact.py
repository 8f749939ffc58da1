"""Exact neighbours: the rows nearest to queries, by products with every row."""

from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import padded
from transforms.records import Metric
from transforms.shards.vectors import BATCH_ROWS

NO_ROW: Final = -1
"""Stands where there is no row."""

_FURTHEST: Final = np.finfo(np.float32).max
"""What is further is no row."""


def distances_of(queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Returns the distance of every query and row, float32 `(q, n)`, lower is nearer: of `ip` the negative product.

    Args:
        queries: float32 `(q, d)`.
        vectors: float32 `(n, d)`, 4,096 at most.
        metric: what a distance is.
    """
    if metric == "l1":
        one_by_one: NDArray[np.float32] = faiss.pairwise_distances(queries, vectors, faiss.METRIC_L1)
        return one_by_one
    if metric == "l2":
        # Seen from one of the queries: of vectors that lie far from 0, squares would swallow how far apart they are.
        centre = queries[:1].sum(axis=0)
        queries, vectors = queries - centre, vectors - centre
    # In a slot of one shape, as in the code: the last bits do not tell how many rows came together.
    products = (queries @ padded(vectors, BATCH_ROWS).T)[:, : len(vectors)]
    if metric == "ip":
        return -products
    norms = np.einsum("ij,ij->i", vectors, vectors)
    query_norms = np.einsum("ij,ij->i", queries, queries)
    return np.asarray(norms + query_norms[:, None] - 2 * products, np.float32)


def dense(
    ids: NDArray[np.int64], distances: NDArray[np.float32], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Lays the wanted ids and distances of every query side by side, -1 and infinity where it has fewer than others.

    Args:
        ids: int64 `(n,)`.
        distances, wanted: float32 and bool `(q, n)`.
    """
    queries, places = np.nonzero(wanted)
    counts = np.bincount(queries, minlength=len(distances))
    column = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(distances), int(counts.max(initial=0)))
    dense_ids, dense = np.full(shape, NO_ROW), np.full(shape, np.inf, np.float32)
    dense_ids[queries, column], dense[queries, column] = ids[places], distances[queries, places]
    return dense_ids, dense


def nearest(
    ids: NDArray[np.int64], distances: NDArray[np.float32], near: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the `near` nearest of every query, nearest first, ties by id; what is infinitely far is no row.

    Args:
        ids, distances: int64 and float32 `(q, n)`.
        near: how many, of n or more.
    """
    if ids.shape[1] > near:
        # A few more than are wanted, so that ties at the end are ordered by id, too.
        kept = np.argpartition(distances, near - 1, axis=1)[:, :near]
        limit = np.take_along_axis(distances, kept, 1).max(axis=1, keepdims=True, initial=-np.inf)
        tied = distances <= limit
        width = max(near, int(tied.sum(axis=1).max(initial=0)))
        kept = np.argsort(~tied, axis=1, kind="stable")[:, :width] if width > near else kept
        ids, distances = np.take_along_axis(ids, kept, 1), np.take_along_axis(distances, kept, 1)
    order = np.lexsort((ids, distances), axis=1)[:, :near]
    ids, distances = np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
    return np.where(np.isinf(distances), NO_ROW, ids), distances


class ExactNeighbours:
    """The rows nearest to queries, of batches that come one after the other. For one thread.

    Attributes:
        ids, distances: int64 and float32 `(q, near)` so far, nearest first, ties by id; -1 and infinity: no row yet.
    """

    def __init__(self, queries: NDArray[np.float32], near: int, metric: Metric, own: NDArray[np.int64]) -> None:
        """Knows no row yet.

        Args:
            queries: float32 `(q, d)`.
            near: how many rows are wanted of each.
            metric: what is near.
            own: int64 `(q,)`, the row that each query is, which is not its neighbour; -1: none.
        """
        self._queries, self._near, self._metric, self._own = queries, near, metric, own
        self.ids = np.full((len(queries), near), NO_ROW)
        self.distances = np.full((len(queries), near), np.inf, np.float32)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Looks at some rows, ids int64 `(n,)` ascending and vectors float32 `(n, d)`, 4,096 at most.

        Cost: a product of each with every query; what is nearer than a query's last so far is sorted in.
        """
        distances = distances_of(self._queries, vectors, self._metric)
        places = np.minimum(np.searchsorted(ids, self._own), len(ids) - 1)
        itself = np.flatnonzero(ids[places] == self._own)
        distances[itself, places[itself]] = np.inf
        self._join(*dense(ids, distances, distances <= np.minimum(self.distances[:, -1:], _FURTHEST)))

    def join(self, ids: NDArray[np.int64], distances: NDArray[np.float32]) -> None:
        """Takes in what another found of other rows for the same queries."""
        self._join(ids, distances)

    def _join(self, ids: NDArray[np.int64], distances: NDArray[np.float32]) -> None:
        if ids.shape[1]:
            every = np.concatenate([self.ids, ids], axis=1), np.concatenate([self.distances, distances], axis=1)
            self.ids, self.distances = nearest(*every, self._near)
