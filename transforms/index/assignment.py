"""Assigns vectors to lists, flat or by two levels, so that what else is in a batch never changes an answer.

Flat assignment costs K products a vector. By two levels, a vector meets the √K parents and the centroids of its best
`probes` cells; vectors are grouped by cell, so that each cell is one matrix product. The shape of a product depends on
the batch, and with it the last bits of a score: so wherever the two best are within rounding, exact products decide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

RANKED_ROWS: Final = 4096
"""Rows that are ranked against the parents at once, padded: a product of one shape rounds a row always alike."""

_GROUPED_BYTES: Final = 32 << 20
_BLOCK_ROWS, _BLOCK_LISTS = 1024, 1024
_ROUNDING: Final = 1e-5
"""Bound of the error of a float32 product, over the norms of its sides; a hundred times what is seen at 1,000 d."""

Rows = slice | NDArray[np.int64]


@dataclass(frozen=True)
class FlatAssigner:
    """Finds the nearest of all centroids, float32 `(nlist, d)`: by inner product when `spherical`, else by L2."""

    centroids: NDArray[np.float32]
    spherical: bool

    @cached_property
    def _scorer(self) -> "_Scorer":
        return _Scorer(self.centroids, self.spherical)

    def assign(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns the list, int64 `(n,)`, of every vector of float32 `(n, d)`, finite; of equals, the lower one."""
        contest = _Contest(self._scorer, vectors)
        nlist = len(self.centroids)
        for first in range(0, len(vectors), _BLOCK_ROWS):
            rows = slice(first, min(first + _BLOCK_ROWS, len(vectors)))
            for start in range(0, nlist, _BLOCK_LISTS):
                contest.offer(rows, vectors[rows], start, min(start + _BLOCK_LISTS, nlist))
        everything = np.arange(nlist)
        return contest.settled(lambda _: everything)


@dataclass(frozen=True)
class TwoLevelAssigner:
    """Finds the nearest centroid among those of the nearest cells.

    Attributes:
        parents: float32 `(cells, d)`.
        centroids: float32 `(nlist, d)`, cell by cell.
        bounds: int64 `(cells + 1,)`: cell c has the centroids `bounds[c]` to `bounds[c + 1]`.
        spherical: nearest by inner product, else by L2.
    """

    parents: NDArray[np.float32]
    centroids: NDArray[np.float32]
    bounds: NDArray[np.int64]
    spherical: bool

    @cached_property
    def _scorer(self) -> "_Scorer":
        return _Scorer(self.centroids, self.spherical)

    @cached_property
    def _occupied(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.bounds[1:] > self.bounds[:-1])

    @cached_property
    def _ranking(self) -> "_Scorer":
        """Scores the parents of cells that have lists."""
        return _Scorer(self.parents[self._occupied], self.spherical)

    def assign(self, vectors: NDArray[np.float32], probes: int) -> NDArray[np.int64]:
        """Returns a list for every vector of float32 `(n, d)`, finite: int64 `(n,)`; of equally near ones, the lower.

        Args:
            vectors: what to assign. 10,000s at once make larger products a cell, which is faster.
            probes: cells looked into; all of them is exact, and costs what flat assignment does.

        Memory: 32 MiB of vectors are worked on at once, with about as much again for products.
        """
        at_once = max(1, _GROUPED_BYTES // (4 * vectors.shape[1] * RANKED_ROWS)) * RANKED_ROWS
        lists = np.empty(len(vectors), np.int64)
        for start in range(0, len(vectors), at_once):
            lists[start : start + at_once] = self._assign(vectors[start : start + at_once], probes)
        return lists

    def _assign(self, vectors: NDArray[np.float32], probes: int) -> NDArray[np.int64]:
        contest = _Contest(self._scorer, vectors)
        cells = self._nearest_cells(vectors, probes)
        flat = cells.reshape(-1)
        order = np.argsort(flat, kind="stable")  # of 16-bit numbers, a radix sort
        rows = order // cells.shape[1]
        edges = np.append(0, np.cumsum(np.bincount(flat, minlength=len(self.parents))))
        for cell in np.flatnonzero(edges[1:] > edges[:-1]).tolist():
            members = rows[edges[cell] : edges[cell + 1]]
            contest.offer(members, vectors[members], int(self.bounds[cell]), int(self.bounds[cell + 1]))

        def lists_near(row: int) -> NDArray[np.int64]:
            ranges = [np.arange(self.bounds[cell], self.bounds[cell + 1]) for cell in np.sort(cells[row]).tolist()]
            return np.concatenate(ranges)

        return contest.settled(lists_near)

    def _nearest_cells(self, vectors: NDArray[np.float32], probes: int) -> NDArray[np.unsignedinteger]:
        """Returns the nearest cells that have lists, `(n, probes)`, in no order, in a narrow type that sorts fast."""
        occupied = self._occupied.astype(np.min_scalar_type(len(self.parents)))
        if probes >= len(occupied):
            return np.broadcast_to(occupied, (len(vectors), len(occupied))).copy()
        cells = np.empty((len(vectors), probes), occupied.dtype)
        for start in range(0, len(vectors), RANKED_ROWS):
            part = padded(vectors[start : start + RANKED_ROWS], RANKED_ROWS)
            scores = self._ranking.scores(part, 0, len(occupied))
            best = np.argpartition(scores, len(occupied) - probes, axis=1)[:, len(occupied) - probes :]
            cells[start : start + RANKED_ROWS] = occupied[best[: len(vectors) - start]]
        return cells


def padded(vectors: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Returns `vectors`, float32 `(n, d)`, themselves if they are `rows`, else a copy with zeros behind them."""
    if len(vectors) == rows:
        return vectors
    slot = np.zeros((rows, vectors.shape[1]), np.float32)
    slot[: len(vectors)] = vectors
    return slot


class _Scorer:
    """Scores of vectors against centroids, higher is nearer: x·c, and for L2 x·c - c²/2."""

    def __init__(self, centroids: NDArray[np.float32], spherical: bool) -> None:
        self._centroids = centroids
        squares = np.einsum("ij,ij->i", centroids, centroids)
        self._bias = None if spherical else 0.5 * squares
        self._longest = float(np.sqrt(squares.max()))

    def scores(self, vectors: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        """float32 `(n, stop - start)`."""
        products: NDArray[np.float32] = vectors @ self._centroids[start:stop].T
        if self._bias is not None:
            products -= self._bias[start:stop]
        return products

    def rounding(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """By how much scores of each vector may be off, at the most: float32 `(n,)`."""
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        bound: NDArray[np.float32] = norms if self._bias is None else norms + np.float32(0.5 * self._longest)
        return bound * np.float32(_ROUNDING * self._longest)

    def nearest(self, vector: NDArray[np.float32], lists: NDArray[np.int64], rounding: np.float32) -> int:
        """The nearest of `lists`, ascending, by products in float64; of equals, the first."""
        some = self._centroids[lists]
        rough = some @ vector if self._bias is None else some @ vector - self._bias[lists]
        close = rough >= rough.max() - 2 * rounding
        candidates = some[close].astype(np.float64)
        # Sums along rows, not a matrix product: a row's sum is then the same among any others.
        exact = (candidates * vector).sum(axis=1)
        if self._bias is not None:
            exact -= 0.5 * (candidates * candidates).sum(axis=1)
        return int(lists[close][exact.argmax()])


class _Contest:
    """The best list of every vector so far, and the score of the second best."""

    def __init__(self, scorer: _Scorer, vectors: NDArray[np.float32]) -> None:
        self._scorer, self._vectors = scorer, vectors
        self._best = np.full(len(vectors), -np.inf, np.float32)
        self._second = np.full(len(vectors), -np.inf, np.float32)
        self._lists = np.zeros(len(vectors), np.int64)

    def offer(self, rows: Rows, vectors: NDArray[np.float32], start: int, stop: int) -> None:
        """Lets some vectors, those at `rows`, each once, look at the lists `start` to `stop`."""
        scores = self._scorer.scores(vectors, start, stop)
        # Flat positions; and argmax twice, which numpy does faster than max.
        firsts = np.arange(0, scores.size, stop - start)
        place = scores.argmax(axis=1)
        flat = scores.reshape(-1)
        top = flat[firsts + place]
        flat[firsts + place] = -np.inf
        second = flat[firsts + scores.argmax(axis=1)]
        best = self._best[rows]
        self._second[rows] = np.maximum(np.maximum(self._second[rows], second), np.minimum(best, top))
        self._lists[rows] = np.where(top > best, start + place, self._lists[rows])
        self._best[rows] = np.maximum(best, top)

    def settled(self, looked_at: Callable[[int], NDArray[np.int64]]) -> NDArray[np.int64]:
        """The best lists; where another is within rounding, exact products of all that a row `looked_at` decide."""
        rounding = self._scorer.rounding(self._vectors)
        for row in np.flatnonzero(self._best - self._second <= 2 * rounding).tolist():
            self._lists[row] = self._scorer.nearest(self._vectors[row], looked_at(row), rounding[row])
        return self._lists
