"""Scores of vectors against centroids, and how far rounding may move them."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROUNDING: Final = 1e-5
"""Bound of the error of a float32 product, over the norms of its sides; a hundred times what is seen at 1,000 d."""

_LEAST_NORM: Final = 1e-15
"""Norms below it are taken in float64: in float32 their squares lose digits, and become zero."""

_LEAST_ROUNDING: Final = float(np.finfo(np.float32).tiny)
"""Products so small lose digits."""

_PAIRS_IN_CACHE: Final = 1024

Rows = slice | NDArray[np.int64]
Looks = Iterator[tuple[Rows, int, int]]
"""Which rows look at which lists: rows, first list, and the one behind the last; all lists of a row in order."""


class Room:
    """Memory for scores that are looked at and dropped: new memory for each product would take as long as the product.

    Of one thread at a time; what is made in it is overwritten by the next.
    """

    def __init__(self) -> None:
        """Begins with none."""
        self._memory = np.empty(0, np.float32)

    def of(self, rows: int, columns: int) -> NDArray[np.float32]:
        """Returns float32 `(rows, columns)` of no particular content."""
        if len(self._memory) < rows * columns:
            self._memory = np.empty(rows * columns, np.float32)
        return self._memory[: rows * columns].reshape(rows, columns)


class Scorer:
    """Scores of vectors against centroids, higher is nearer: x·c, and for L2 x·c - c²/2."""

    def __init__(self, centroids: NDArray[np.float32], spherical: bool) -> None:
        """Takes centroids, float32 `(nlist, d)`, which are nearest by inner product when `spherical`, else by L2."""
        self.centroids = centroids
        squares = np.einsum("ij,ij->i", centroids, centroids)
        self.bias = None if spherical else 0.5 * squares
        self.longest = float(_norms(centroids).max())

    def scores(
        self, vectors: NDArray[np.float32], start: int, stop: int, room: Room | None = None
    ) -> NDArray[np.float32]:
        """All scores with the lists `start` to `stop`, float32 `(n, stop - start)`, in new memory or in some room."""
        out = None if room is None else room.of(len(vectors), stop - start)
        products: NDArray[np.float32] = np.matmul(vectors, self.centroids[start:stop].T, out=out)
        if self.bias is not None:
            products -= self.bias[start:stop]
        return products

    def of_pairs(
        self, vectors: NDArray[np.float32], rows: NDArray[np.int64], lists: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The score of each row with the list beside it, float32 `(k,)`; `rows` and `lists` are int64 `(k,)`."""
        found = np.empty(len(rows), np.float32)
        for first in range(0, len(rows), _PAIRS_IN_CACHE):
            some = slice(first, first + _PAIRS_IN_CACHE)
            # `take` lets other threads go on, but copies all of an array that lies askew in a mapped file.
            sides = vectors.take(rows[some], axis=0), self.centroids[lists[some]]
            np.einsum("ij,ij->i", *sides, out=found[some])
        if self.bias is not None:
            found -= self.bias[lists]
        return found

    def rounding(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """By how much scores of each vector may be off, at the most: float32 `(n,)`."""
        norms = _norms(vectors)
        bound: NDArray[np.float32] = norms if self.bias is None else norms + np.float32(0.5 * self.longest)
        return bound * np.float32(_ROUNDING * self.longest) + np.float32(_LEAST_ROUNDING)

    def wide_scores(self, vectors: NDArray[np.float64], lists: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same as `scores` in float64, `(n, k)`, for some lists."""
        centroids = self.centroids[lists].astype(np.float64)
        products: NDArray[np.float64] = vectors @ centroids.T
        if self.bias is not None:
            products -= 0.5 * np.einsum("ij,ij->i", centroids, centroids)
        return products

    def exact(self, vectors: NDArray[np.float64], lists: NDArray[np.int64]) -> NDArray[np.float64]:
        """The score of each vector with the list beside it, float64 `(n,)`: whatever stands in other rows."""
        centroids = self.centroids[lists].astype(np.float64)
        # Sums along rows, not a matrix product: a row's sum is then the same among any others.
        products: NDArray[np.float64] = (centroids * vectors).sum(axis=1)
        if self.bias is not None:
            products -= 0.5 * (centroids * centroids).sum(axis=1)
        return products


def _norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    small = np.flatnonzero(norms < _LEAST_NORM)
    if len(small):
        some = vectors[small]
        norms[small] = np.sqrt(np.einsum("ij,ij->i", some, some, dtype=np.float64))
    return norms
