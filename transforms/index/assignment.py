"""Assigns vectors to lists, flat or by two levels, so that what else is in a batch never changes an answer.

Flat assignment costs K products a vector, of few components where these rule out most lists (`scores.sketch`). By two
levels, a vector meets the √K parents and the centroids of its best `probes` cells; vectors are grouped by cell, so that
each cell is one matrix product. The shape of a product depends on the batch, and with it the last bits of a score: so
wherever the two best are within rounding, exact products decide, of all such rows together.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.scores.elsewhere import Best, Products
from transforms.index.scores.scorer import Looks, Room, Rows, Scorer
from transforms.index.scores.sketch import Finalists, Sketch, chosen_sketch

RANKED_ROWS: Final = 4096
"""Rows that are ranked against the parents at once, padded: a product of one shape rounds a row always alike."""

_GROUPED_BYTES: Final = 32 << 20
_BLOCK_ROWS, _BLOCK_LISTS = 1024, 1024
_CHOOSING_ROWS: Final = 4096
"""Vectors from which on a sketch is looked for; to assign fewer takes less than that."""

_WIDE_ROUNDING: Final = 1e-6
"""Bound of the error of a float64 product, over that of a float32 one; a thousand times what is seen."""

_PAIR_BYTES: Final = 32 << 20


class _Sketches:
    """The sketch that assignment goes by, chosen when there are enough vectors to choose by."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._is_chosen = self._was_given_up = False
        self._sketch: Sketch | None = None
        self._choosing = threading.Lock()

    def of(self, vectors: NDArray[np.float32]) -> Sketch | None:
        """Returns the sketch for vectors, float32 `(n, d)`; None: to do without is cheaper, as far as is known."""
        with self._choosing:
            if not self._is_chosen and len(vectors) >= _CHOOSING_ROWS:
                self._sketch = chosen_sketch(self._scorer, vectors)
                self._is_chosen = True
            return self._sketch

    def give_up(self, sketch: Sketch) -> None:
        """Chooses anew with the next vectors, for these were other ones than those that it was chosen by.

        A second one that decides too little is not followed by a third: near pairs of lists are decided by none.
        """
        with self._choosing:
            if sketch is self._sketch:
                self._sketch, self._is_chosen, self._was_given_up = None, self._was_given_up, True


@dataclass(frozen=True)
class FlatAssigner:
    """Finds the nearest of all centroids, float32 `(nlist, d)`: by inner product when `spherical`, else by L2.

    `products` are those of another device; None: this processor makes them.
    """

    centroids: NDArray[np.float32]
    spherical: bool
    products: Products | None = None

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.centroids, self.spherical)

    @cached_property
    def _sketches(self) -> _Sketches:
        return _Sketches(self._scorer)

    def assign(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns the list, int64 `(n,)`, of every vector of float32 `(n, d)`, finite; of equals, the lower one."""
        sketch = None if self.products else self._sketches.of(vectors)
        if sketch is None:
            return self._among_all(vectors)
        finalists = Finalists(self._scorer, vectors)
        finalists.look(sketch)
        lists, sure = finalists.decide()
        if not sure.all():
            lists[~sure] = self._among_all(vectors[~sure])
        if 2 * np.count_nonzero(sure) < len(vectors):
            self._sketches.give_up(sketch)
        return lists

    def _among_all(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        at_once = self.products.block_rows if self.products else _BLOCK_ROWS

        def looks(rows: NDArray[np.int64] | None) -> Looks:
            return self._looks(len(vectors), at_once) if rows is None else self._looks(len(rows), _BLOCK_ROWS)

        return _nearest(self._scorer, vectors, looks, self.products)

    def _looks(self, rows: int, at_once: int) -> Looks:
        nlist = len(self.centroids)
        for first in range(0, rows, at_once):
            for start in range(0, nlist, _BLOCK_LISTS):
                yield slice(first, min(first + at_once, rows)), start, min(start + _BLOCK_LISTS, nlist)


@dataclass(frozen=True)
class TwoLevelAssigner:
    """Finds the nearest centroid among those of the nearest cells.

    Attributes:
        parents: float32 `(cells, d)`.
        centroids: float32 `(nlist, d)`, cell by cell.
        bounds: int64 `(cells + 1,)`: cell c has the centroids `bounds[c]` to `bounds[c + 1]`.
        spherical: nearest by inner product, else by L2.
        products: those of another device with the centroids; None: this processor makes them, as those with parents.
    """

    parents: NDArray[np.float32]
    centroids: NDArray[np.float32]
    bounds: NDArray[np.int64]
    spherical: bool
    products: Products | None = None

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.centroids, self.spherical)

    @cached_property
    def _occupied(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.bounds[1:] > self.bounds[:-1])

    @cached_property
    def _ranking(self) -> Scorer:
        """Scores the parents of cells that have lists."""
        return Scorer(self.parents[self._occupied], self.spherical)

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
        cells = self._nearest_cells(vectors, probes)

        def looks(rows: NDArray[np.int64] | None) -> Looks:
            return self._looks(cells if rows is None else cells[rows])

        return _nearest(self._scorer, vectors, looks, self.products)

    def _looks(self, cells: NDArray[np.unsignedinteger]) -> Looks:
        flat = cells.reshape(-1)
        order = np.argsort(flat, kind="stable")  # of 16-bit numbers, a radix sort
        rows = order // cells.shape[1]
        edges = np.append(0, np.cumsum(np.bincount(flat, minlength=len(self.parents))))
        for cell in np.flatnonzero(edges[1:] > edges[:-1]).tolist():
            yield rows[edges[cell] : edges[cell + 1]], int(self.bounds[cell]), int(self.bounds[cell + 1])

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


class _Contest:
    """The best list of every vector so far, and the score of the second best."""

    def __init__(self, scorer: Scorer, vectors: NDArray[np.float32]) -> None:
        self._scorer, self._vectors = scorer, vectors
        self.best = np.full(len(vectors), -np.inf, np.float32)
        self.second = np.full(len(vectors), -np.inf, np.float32)
        self.lists = np.zeros(len(vectors), np.int64)
        self._room = Room()

    def offer(self, rows: Rows, start: int, stop: int) -> None:
        """Lets some vectors, those at `rows`, each once, look at the lists `start` to `stop`."""
        scores = self._scorer.scores(self._vectors[rows], start, stop, self._room)
        # Flat positions; and argmax twice, which numpy does faster than max.
        firsts = np.arange(0, scores.size, stop - start)
        place = scores.argmax(axis=1)
        flat = scores.reshape(-1)
        top = flat[firsts + place]
        flat[firsts + place] = -np.inf
        second = flat[firsts + scores.argmax(axis=1)]
        best = self.best[rows]
        self.second[rows] = np.maximum(np.maximum(self.second[rows], second), np.minimum(best, top))
        self.lists[rows] = np.where(top > best, start + place, self.lists[rows])
        self.best[rows] = np.maximum(best, top)


def _best_lists(scorer: Scorer, vectors: NDArray[np.float32], looks: Looks) -> Best:
    contest = _Contest(scorer, vectors)
    for rows, start, stop in looks:
        contest.offer(rows, start, stop)
    return Best(contest.lists, contest.best, contest.second)


class _Settling:
    """Decides what float32 cannot: of the lists within rounding of the best, float64 leaves hardly more than one.

    Attributes of what is asked: `vectors` float32 `(n, d)`, their best scores so far and their rounding, `(n,)`.
    """

    def __init__(
        self, scorer: Scorer, vectors: NDArray[np.float32], best: NDArray[np.float32], rounding: NDArray[np.float32]
    ) -> None:
        self._scorer, self._vectors, self._wide = scorer, vectors, vectors.astype(np.float64)
        self._floor, self._rounding = best - 2 * rounding, _WIDE_ROUNDING * rounding.astype(np.float64)
        self._top = np.full(len(vectors), -np.inf)
        self._pairs: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []

    def offer(self, rows: Rows, start: int, stop: int) -> None:
        """Lets the vectors at `rows` look once more."""
        near = self._scorer.scores(self._vectors[rows], start, stop) >= self._floor[rows, None]
        members, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if not len(members):
            return
        places = np.arange(rows.start, rows.stop)[members] if isinstance(rows, slice) else rows[members]
        scores = self._scorer.wide_scores(self._wide[places], start + columns)
        scores[~near[np.ix_(members, columns)]] = -np.inf
        top = self._top[places] = np.maximum(self._top[places], scores.max(axis=1))
        member, column = np.nonzero(scores >= (top - self._rounding[places])[:, None])
        self._pairs.append((places[member], start + columns[column], scores[member, column]))

    def lists(self) -> NDArray[np.int64]:
        """The nearest list of every vector; of equals, the lower one."""
        rows, lists, scores = (np.concatenate(parts) for parts in zip(*self._pairs, strict=True))
        kept = scores >= (self._top - self._rounding)[rows]
        rows, lists, exact = rows[kept], lists[kept], scores[kept]
        at_once = max(1, _PAIR_BYTES // self._wide[:1].nbytes)
        for first in range(0, len(rows), at_once):
            some = slice(first, first + at_once)
            exact[some] = self._scorer.exact(self._wide[rows[some]], lists[some])
        order = np.lexsort((lists, -exact, rows))
        nearest: NDArray[np.int64] = lists[order[np.unique(rows[order], return_index=True)[1]]]
        return nearest


def _nearest(
    scorer: Scorer,
    vectors: NDArray[np.float32],
    looks: Callable[[NDArray[np.int64] | None], Looks],
    products: Products | None,
) -> NDArray[np.int64]:
    """The nearest list of every vector; `looks` says what some rows, numbered anew, or all of them look at.

    Rows whose two best are within rounding look a second time, together; equal ones among them, as those of blank
    pictures are, once for all.
    """
    found = (products.best_lists if products else _best_lists)(scorer, vectors, looks(None))
    rounding = scorer.rounding(vectors)
    tied = np.flatnonzero(found.best - found.second <= 2 * rounding)
    if len(tied):
        content = vectors[tied].view(np.dtype((np.void, vectors[:1].nbytes))).reshape(-1)
        _, firsts, same = np.unique(content, return_index=True, return_inverse=True)
        some = tied[firsts]
        settling = _Settling(scorer, vectors[some], found.best[some], rounding[some])
        for rows, start, stop in looks(some):
            settling.offer(rows, start, stop)
        found.lists[tied] = settling.lists()[same]
    return found.lists
