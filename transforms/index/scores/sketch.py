"""Rules out most lists of a vector by few components, so that a whole product is made with the few that are left.

In the directions in which centroids are longest, m components of a vector and a centroid give a part of their product,
and by Cauchy and Schwarz the rest is at most the product of the lengths left: x·c <= x'·c' + |x"| |c"|. That bound is
itself a product, of m + 1 components. A list whose bound is below the score of one that was looked at is not the
nearest; so the nearest is always among those left, however few they are. By the same token no score is below its bound
by more than twice that product of lengths: where they are short, most vectors are decided with no other product.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.scores.scorer import Scorer

_STEP: Final = 16
"""Components of the smallest sketch that is tried, and those by which the others differ, at least."""

_STEPS: Final = 16
"""They differ by a sixteenth of all components where that is more, and have half of all at most: eight are tried."""

_SQUARE_ROUNDING: Final = 1e-5
"""Bound of the error of a squared length in float32, over itself."""

_LEAST_SQUARE: Final = 1e-30
"""Squared length of a vector below which squares of its components may be too small for float32, and bounds too low."""

_MOST_PAIRS: Final = 64
"""Lists left to a row from which on a product with all lists is cheaper."""

_BLOCK_BOUNDS: Final = 1 << 19
"""Bounds that are computed at once: two megabytes, which stay in a cache. Of fewer rows, lists are read too often."""

_SKETCH_BYTES: Final = 64 << 20
_MOST_COMPONENTS: Final = 2048
"""Of vectors with more, eigenvectors take minutes."""

_LEAST_TRIED, _TRIED_ROWS, _TRIED_BOUNDS = 8, 512, 1 << 21
"""On how many vectors sketches are tried: so many that the bounds of one trial are about two million."""

_BASIS_ROWS, _WIDE_ROWS = 8192, 1024
"""Centroids that the directions are taken from, and those that are in float64 at a time."""

_PASSES_OF_BOUNDS, _PASSES_OF_LEFT, _PASSES_OF_SCORES, _PAIR_COST, _AMONG_ALL = 46, 66, 20, 32, 1.25
"""What was measured, in products of a component: to go through the bounds of a list, through them again where lists are
left to a row, and through its scores; to make one of the products that are left, for each of its components; and how
much more the products of a row with all lists cost when they are made apart.

Of picture embeddings and of clustered vectors of 256 components, with 1,024 and 4,096 lists, on two threads: within 5 %
of the time of most sketches, and 12 % of all.
"""


class Sketch:
    """Centroids in some directions, and the length that each has left."""

    def __init__(
        self,
        basis: NDArray[np.float32],
        parts: NDArray[np.float32],
        left: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> None:
        """Takes directions, float32 `(d, m)`, centroids in them, `(nlist, m)`, what they have left, and their bias."""
        self._basis = basis
        columns = [parts, left[:, None]] if bias is None else [parts, left[:, None], -bias[:, None]]
        self._lists = np.hstack(columns)

    def of(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns what stands for vectors in `bounds`, float32 `(n, m + 1)`, and one more for L2."""
        components = self._basis.shape[1]
        made = np.ones((len(vectors), self._lists.shape[1]), np.float32)
        part = vectors @ self._basis
        made[:, :components] = part
        squares = np.einsum("ij,ij->i", vectors, vectors)
        left = squares * np.float32(1 + _SQUARE_ROUNDING) - np.einsum("ij,ij->i", part, part)
        made[:, components] = np.sqrt(np.maximum(left, 0))
        return made

    def bounds(self, sketched: NDArray[np.float32], out: NDArray[np.float32]) -> NDArray[np.float32]:
        """What no score with a list is above but by rounding, float32 `(n, nlist)`: the first rows of `out`."""
        return np.matmul(sketched, self._lists.T, out=out[: len(sketched)])

    def slack(self, sketched: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.float32]:
        """By how much the score of each vector with the list beside it is below its bound at most, float32 `(n,)`."""
        components = self._basis.shape[1]
        return 2 * sketched[:, components] * self._lists[lists, components]


def sketches(scorer: Scorer, basis: NDArray[np.float64], sizes: Sequence[int]) -> Iterator[Sketch]:
    """Yields a sketch of each of these numbers of components, of which there are some, ascending and fewer than d.

    `basis` float64 `(d, d)` has orthonormal columns, those that tell most first. All centroids are turned once.
    """
    nlist = len(scorer.centroids)
    parts, left = np.empty((nlist, sizes[-1]), np.float32), np.empty((nlist, len(sizes)), np.float32)
    for start in range(0, nlist, _WIDE_ROWS):
        rows = slice(start, start + _WIDE_ROWS)
        turned = scorer.centroids[rows].astype(np.float64) @ basis
        parts[rows] = turned[:, : sizes[-1]]
        behind = np.cumsum(np.square(turned, out=turned)[:, ::-1], axis=1)[:, ::-1]
        left[rows] = np.sqrt(behind[:, sizes])
    for number, size in enumerate(sizes):
        yield Sketch(basis[:, :size].astype(np.float32), parts[:, :size], left[:, number], scorer.bias)


class Finalists:
    """The lists that bounds leave to some vectors, which become those vectors' nearest lists."""

    def __init__(self, scorer: Scorer, vectors: NDArray[np.float32]) -> None:
        """Begins with no lists; `vectors` are float32 `(n, d)`, n > 0."""
        self._scorer, self._vectors = scorer, vectors
        self._rounding = scorer.rounding(vectors)
        self._are_long_enough = np.einsum("ij,ij->i", vectors, vectors) > _LEAST_SQUARE
        self._highest = np.zeros(len(vectors), np.int64)
        self._left = np.zeros(len(vectors), np.int64)
        self._pairs = [(np.empty(0, np.int64), np.empty(0, np.int64))]

    @property
    def left(self) -> NDArray[np.int64]:
        """How many lists are left to each row beside that of the highest bound, int64 `(n,)`."""
        return self._left

    def look(self, sketch: Sketch) -> None:
        """Lets every row look at every list: the floor of a row is the score of the list with the highest bound."""
        nlist, sketched = len(self._scorer.centroids), sketch.of(self._vectors)
        at_once = max(1, _BLOCK_BOUNDS // nlist)
        room = np.empty((at_once, nlist), np.float32)  # new memory for every block would take as long as the products
        for first in range(0, len(sketched), at_once):
            block = slice(first, first + at_once)
            bounds = sketch.bounds(sketched[block], room)
            flat, places = bounds.reshape(-1), np.arange(0, bounds.size, nlist)
            self._highest[block] = highest = bounds.argmax(axis=1)
            floors = flat[places + highest] - sketch.slack(sketched[block], highest) - 2 * self._rounding[block]
            # Of most rows no other is left: the second highest bound takes a third of the time of a comparison of all.
            flat[places + highest] = -np.inf
            second = flat[places + bounds.argmax(axis=1)]
            near = np.flatnonzero(~(second < floors))  # what is no number decides nothing
            rows, best = first + near, highest[near]
            exact = self._scorer.of_pairs(self._vectors, rows, best) - 2 * self._rounding[rows]
            some = ~(second[near] < exact)
            self._keep(rows[some], best[some], ~(bounds.take(near[some], axis=0) < exact[some, None]))

    def _keep(self, rows: NDArray[np.int64], highest: NDArray[np.int64], near: NDArray[np.bool_]) -> None:
        row, lists = np.divmod(np.flatnonzero(near), near.shape[1])
        self._left[rows] = counts = np.bincount(row, minlength=len(rows))
        few = counts <= _MOST_PAIRS
        self._pairs += [(rows[few], highest[few]), (rows[row[few[row]]], lists[few[row]])]

    def decide(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns the nearest list of every row, int64 `(n,)`, and whether it is surely that one, bool `(n,)`.

        Not sure are rows with many lists left, those whose two best are within rounding, and those of almost no length.
        """
        nearest, sure = self._highest.copy(), self._are_long_enough & (self._left <= _MOST_PAIRS)
        rows, lists = (np.concatenate(parts) for parts in zip(*self._pairs, strict=True))
        if not len(rows):
            return nearest, sure
        order = np.argsort(rows, kind="stable")
        rows, lists = rows[order], lists[order]
        scores = self._scorer.of_pairs(self._vectors, rows, lists)
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        row, counts = rows[starts], np.diff(starts, append=len(rows))
        best = np.maximum.reduceat(scores, starts)
        top = scores == np.repeat(best, counts)
        once = np.add.reduceat(top.astype(np.int64), starts) == 1
        nearest[rows[top]] = lists[top]
        second = np.maximum.reduceat(np.where(top, np.float32(-np.inf), scores), starts)
        sure[row] &= once & (best - second > 2 * self._rounding[row])
        return nearest, sure


def chosen_sketch(scorer: Scorer, vectors: NDArray[np.float32]) -> Sketch | None:
    """Returns the sketch with which assignment takes least, judged by some of these vectors; None: without is cheaper.

    Which one it is changes no answer.

    Memory: at most 64 MiB for the sketch, and twice as much while it is chosen. Cost: eigenvectors of `(d, d)`, all
    centroids turned once in float64, and some rows' products with all; of 8,192 x 1,280 two seconds of a core.
    """
    nlist, dim = scorer.centroids.shape
    widest = min(dim // 2, _SKETCH_BYTES // (4 * nlist) - 2)
    found, least = None, nlist * (dim + _PASSES_OF_SCORES)

    def cost_of_bounds(components: int) -> int:
        return int(nlist * (components + _PASSES_OF_BOUNDS) + dim * components)

    sizes = [size for size in range(_STEP, widest + 1, max(_STEP, dim // _STEPS)) if cost_of_bounds(size) < least]
    if dim > _MOST_COMPONENTS or not sizes:
        return None
    some = vectors[:: -(-len(vectors) // max(_LEAST_TRIED, min(_TRIED_ROWS, _TRIED_BOUNDS // nlist)))]
    for components, sketch in zip(sizes, sketches(scorer, _directions(scorer.centroids), sizes), strict=True):
        cost = cost_of_bounds(components)
        if cost >= least:
            break
        finalists = Finalists(scorer, some)
        finalists.look(sketch)
        left = finalists.left
        few = left <= _MOST_PAIRS
        cost += _PASSES_OF_LEFT * nlist * (left > 0).mean() + _PAIR_COST * dim * (left * few).mean()
        cost += _AMONG_ALL * (~few).mean() * nlist * (dim + _PASSES_OF_SCORES)
        if cost < least:
            found, least = sketch, cost
    return found


def _directions(centroids: NDArray[np.float32]) -> NDArray[np.float64]:
    """Directions in which centroids are long, orthonormal columns of float64 `(d, d)`, the longest first."""
    some = centroids[:: -(-len(centroids) // _BASIS_ROWS)]
    products = np.zeros((some.shape[1], some.shape[1]))
    for start in range(0, len(some), _WIDE_ROWS):
        wide = some[start : start + _WIDE_ROWS].astype(np.float64)
        products += wide.T @ wide
    _, vectors = np.linalg.eigh(products)
    found: NDArray[np.float64] = vectors[:, ::-1]
    return found
