"""Few vectors that stand for many: centres of k-means, each with the row that is nearest to it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.training.clustering import kmeans, nearest

_NO_DIRECTION: Final = 1e-3


def condensed(
    vectors: NDArray[np.float32], k: int, *, spherical: bool, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns `k` centres of vectors, and which row is the nearest to each: that of its own cluster; each row once.

    k-means is that of training (`clustering.kmeans`: faiss's `Clustering`, Lloyd's iterations from rows drawn at
    random). A centre that no row is nearest to, as where many rows are equal, is replaced by a row itself: of those
    that stand for no centre yet, one of the furthest from theirs.

    Args:
        vectors: float32 `(n, d)`.
        k: 1 to n; with n, the vectors are returned as they are.
        spherical: centres are made 1 long, and are near by inner product (Dhillon and Modha, "Concept decompositions
            for large sparse text data using clustering", 2001): of unit vectors. Else they are means, near by L2.
        seed: of the rows that k-means begins with.

    Returns:
        Centres, float32 `(k, d)`, and places of rows, int64 `(k,)`, ascending.

    Cost: 10 times n * k * d multiplications; memory is that of the vectors twice.
    """
    if k >= len(vectors):
        return vectors, np.arange(len(vectors))
    centres = kmeans(vectors, k, spherical=spherical, seed=seed)
    owners = nearest(vectors, centres, spherical=spherical)
    distances = _distances(vectors, centres, owners, spherical=spherical)
    order = np.lexsort((np.arange(len(vectors)), distances, owners))
    used, first = np.unique(owners[order], return_index=True)
    places = np.full(k, -1, np.int64)
    places[used] = order[first]
    unused = np.flatnonzero(places < 0)
    if len(unused):
        free = np.ones(len(vectors), np.bool_)
        free[places[used]] = False
        left = np.flatnonzero(free)
        chosen = left[np.lexsort((left, -distances[left]))[: len(unused)]]
        places[unused], centres[unused] = chosen, vectors[chosen]
    if spherical:  # rows that lie opposite each other have no mean direction
        cancelled = np.linalg.norm(centres, axis=1) < _NO_DIRECTION
        centres[cancelled] = vectors[places[cancelled]]
    by_place = np.argsort(places)
    return centres[by_place], places[by_place]


def _distances(
    vectors: NDArray[np.float32], centres: NDArray[np.float32], owners: NDArray[np.int64], *, spherical: bool
) -> NDArray[np.float64]:
    """The distance of each vector to its centre, float64 `(n,)`; of `spherical` the negative product."""
    distances = np.empty(len(vectors), np.float64)
    for start in range(0, len(vectors), 1024):
        part = slice(start, start + 1024)
        own, mine = vectors[part].astype(np.float64), centres[owners[part]].astype(np.float64)
        distances[part] = -np.einsum("nd,nd->n", own, mine) if spherical else ((own - mine) ** 2).sum(axis=1)
    return distances
