"""Lloyd's algorithm in a cell, in which lists that hold much are given another's centroid.

Faster than faiss's for some thousand rows and some dozen lists, on one thread; and no list is left where it holds next
to nothing while another holds several times its share.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.training.clustering import faiss_seed, on_sphere
from transforms.index.training.figures import CELL_ITERATIONS

SWAPS_AFTER: Final = (1, 3, 5)
"""Iterations after which centroids change places; those behind the last settle them."""

_LARGE: Final = 2.0
"""A list with so many times its share of rows gets another centroid."""

_SMALLER: Final = 2.0
"""A list gives its centroid away where each part of the other has so many times its rows."""

_ROWS_AT_ONCE: Final = 4096

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]


def lloyd(vectors: Vectors, k: int, *, spherical: bool, seed: int) -> Numbers:
    """Clusters vectors, float32 `(n, d)`, n ≥ k, and returns the list of each: int64 `(n,)`, 0 to k - 1.

    `spherical` keeps centroids at length one and assigns by inner product; without it, by L2. A list can stay empty.
    Cost: n·k products an iteration.
    """
    rng = np.random.default_rng(faiss_seed(seed))
    chosen: Vectors = vectors[np.sort(rng.choice(len(vectors), k, replace=False))]
    centroids = on_sphere(chosen, spherical)
    lists = nearest_of(vectors, centroids, spherical=spherical)
    for iteration in range(1, CELL_ITERATIONS):
        occupied, counts, sums = sums_by_list(vectors, lists)
        centroids[occupied] = on_sphere(np.asarray(sums / counts[:, None], np.float32), spherical)
        if iteration in SWAPS_AFTER:
            _swap(centroids, vectors, lists, rng, spherical=spherical)
        lists = nearest_of(vectors, centroids, spherical=spherical)
    return lists


def nearest_of(vectors: Vectors, centroids: Vectors, *, spherical: bool) -> Numbers:
    """Returns the nearest centroid of every vector, int64 `(n,)`: by inner product if `spherical`, else by L2.

    Work goes in blocks of 4,096 rows, whatever the number of threads.
    """
    turned = np.ascontiguousarray(centroids.T)
    bias = None if spherical else 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    lists = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        scores = vectors[start : start + _ROWS_AT_ONCE] @ turned
        if bias is not None:
            scores -= bias
        scores.argmax(axis=1, out=lists[start : start + len(scores)])
    return lists


def sums_by_list(vectors: Vectors, lists: Numbers, weights: Numbers | None = None) -> tuple[Numbers, Numbers, Vectors]:
    """Sums vectors, float32 `(n, d)`, list by list, in their order; `lists` int64 `(n,)`.

    A row counts as many times as its weight says, int64 `(n,)`; without weights, once.

    Returns:
        The lists that have rows, int64 `(k,)` ascending, how many each has, int64 `(k,)`, and sums, float32 `(k, d)`.

    Memory: the vectors once more.
    """
    of_all = np.bincount(lists)
    occupied = np.flatnonzero(of_all)
    counts = of_all[occupied]
    # A radix sort, as long as 16 bits are enough.
    order = np.argsort(lists.astype(np.min_scalar_type(len(of_all) - 1), copy=False), kind="stable")
    rows = vectors.take(order, axis=0)
    if weights is not None:
        rows *= weights[order, None].astype(np.float32)
    sums = np.empty((len(occupied), vectors.shape[1]), np.float32)
    start = 0
    for number, stop in enumerate(np.cumsum(counts).tolist()):  # five times as fast as reduceat: that takes columns
        np.add.reduce(rows[start:stop], axis=0, out=sums[number])
        start = stop
    return occupied, counts, sums


def _swap(centroids: Vectors, vectors: Vectors, lists: Numbers, rng: np.random.Generator, *, spherical: bool) -> None:
    """Moves centroids of the smallest lists, in place, to rows of the lists that hold several times their share."""
    counts = np.bincount(lists, minlength=len(centroids))
    smallest = iter(np.argsort(counts, kind="stable").tolist())
    share = len(vectors) / len(centroids)
    for large in np.argsort(-counts, kind="stable").tolist():
        parts = int(counts[large] / (_LARGE * share))
        if not parts:
            return
        members = rng.choice(np.flatnonzero(lists == large), parts, replace=False)
        for row in members.tolist():
            given = next(smallest)
            if _SMALLER * counts[given] > counts[large] / (parts + 1):
                return
            centroids[given] = on_sphere(vectors[row : row + 1].copy(), spherical)[0]
