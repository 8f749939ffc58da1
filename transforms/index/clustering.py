"""Coarse centroids by two-level k-means: parents on a small sample, then each parent's cell on its own.

One flat k-means of K centroids costs n·K distances an iteration; two levels cost n·√K, and the cells can be clustered
in parallel on machines that hold one cell each.
"""

import math

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import TwoLevelAssigner

ITERATIONS = 10
"""Of Lloyd's algorithm, at either level: the time of both goes with it."""

FLAT_BELOW = 256
"""Lists below which one flat k-means is as fast."""

LAST_PASSES = 2
"""Passes over all lists after the cells are done: they win back what two levels lose to flat k-means."""

LAST_PASS_CELLS = 4
"""Cells that a vector looks into in such a pass; more gain less than 0.1 % of the objective."""

_SEED = 1234

Vectors = NDArray[np.float32]


def parents_of(nlist: int) -> int:
    """Returns how many parents `nlist` centroids get: the square root of their number."""
    return max(1, round(math.sqrt(nlist)))


def two_level_centroids(
    vectors: Vectors, nlist: int, *, spherical: bool, seed: int
) -> tuple[Vectors, NDArray[np.int64]]:
    """Finds `nlist` centroids, float32 `(nlist, d)`, and assigns every vector, float32 `(n, d)`, to one: int64 `(n,)`.

    Cells get centroids in proportion to their vectors. Last passes let every vector choose among the centroids of its
    nearest cells, and move the centroids there: most of what flat k-means gains over two levels, at a fraction of its
    cost.
    """
    if nlist < FLAT_BELOW:
        centroids = kmeans(vectors, nlist, spherical=spherical, seed=seed)
        return centroids, nearest(vectors, centroids, spherical=spherical)
    cells = parents_of(nlist)
    chosen = np.random.default_rng(seed % (1 << 32)).choice(len(vectors), min(len(vectors), 256 * cells), replace=False)
    parents = kmeans(vectors[np.sort(chosen)], cells, spherical=spherical, seed=seed)
    cell = nearest(vectors, parents, spherical=spherical)
    given = share_out(np.bincount(cell, minlength=cells), nlist)
    order = np.argsort(cell, kind="stable")
    edges = np.searchsorted(cell[order], np.arange(cells + 1))
    centroids = np.concatenate(
        [
            kmeans(
                vectors[order[edges[number] : edges[number + 1]]], int(given[number]), spherical=spherical, seed=seed
            )
            for number in np.flatnonzero(given).tolist()
        ]
    )
    bounds = np.concatenate(([0], np.cumsum(given)))
    for _ in range(LAST_PASSES):
        lists = TwoLevelAssigner(parents, centroids, bounds, spherical).assign(vectors, LAST_PASS_CELLS)
        centroids = lloyd_pass(vectors, lists, centroids, spherical=spherical)
    return centroids, lists


def kmeans(vectors: Vectors, k: int, *, spherical: bool, seed: int, iterations: int = ITERATIONS) -> Vectors:
    """Clusters vectors, float32 `(n, d)` with n ≥ k, and returns centroids, float32 `(k, d)`.

    `spherical` keeps centroids on the unit sphere and assigns by inner product (faiss `Clustering`); without it, by L2.
    """
    dim = vectors.shape[1]
    if k == 1:
        return _on_sphere(vectors.mean(axis=0, keepdims=True), spherical)
    clustering = faiss.Clustering(dim, k)
    clustering.niter = iterations
    clustering.spherical = spherical
    clustering.seed = (_SEED + seed) % (1 << 31)  # faiss keeps it as a C int
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = len(vectors)
    clustering.train(np.ascontiguousarray(vectors), _flat(dim, spherical))
    centroids: Vectors = faiss.vector_to_array(clustering.centroids).reshape(k, dim)
    return centroids


def nearest(vectors: Vectors, centroids: Vectors, *, spherical: bool) -> NDArray[np.int64]:
    """Returns the nearest centroid of every vector: int64 `(n,)`."""
    index = _flat(vectors.shape[1], spherical)
    index.add(np.ascontiguousarray(centroids))
    found: NDArray[np.int64] = index.search(np.ascontiguousarray(vectors), 1)[1][:, 0]
    return found


def share_out(rows: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Shares `k` centroids out among cells in proportion to their rows, by largest remainder.

    No cell gets more centroids than rows; a cell with rows gets at least one while there are enough.

    Args:
        rows: int64 `(cells,)`, the rows of each.
        k: at most the sum of `rows`.

    Returns:
        int64 `(cells,)` with sum `k`.

    >>> share_out(np.array([70, 20, 10, 0]), 10).tolist()
    [7, 2, 1, 0]
    """
    given = np.minimum(rows, 1) if k >= np.count_nonzero(rows) else np.zeros_like(rows)
    wanted = rows * (k / rows.sum())
    while (missing := k - int(given.sum())) > 0:
        claim = np.where(given < rows, wanted - given, -np.inf)
        whole = np.clip(np.floor(claim), 0, rows - given).astype(np.int64)
        if 0 < whole.sum() <= missing:
            given = given + whole
        else:
            given[np.argsort(-claim, kind="stable")[: min(missing, int(np.isfinite(claim).sum()))]] += 1
    return given


def lloyd_pass(vectors: Vectors, lists: NDArray[np.int64], centroids: Vectors, *, spherical: bool) -> Vectors:
    """Moves every centroid to the mean of its vectors; one without vectors stays. Returns float32 `(k, d)`."""
    order = np.argsort(lists, kind="stable")
    occupied, first = np.unique(lists[order], return_index=True)
    moved = centroids.copy()
    counts = np.diff(np.append(first, len(lists)))
    moved[occupied] = np.add.reduceat(vectors[order], first, axis=0) / counts[:, None].astype(np.float32)
    return _on_sphere(moved, spherical)


def _flat(dim: int, spherical: bool) -> faiss.Index:
    return faiss.IndexFlatIP(dim) if spherical else faiss.IndexFlatL2(dim)


def _on_sphere(centroids: Vectors, spherical: bool) -> Vectors:
    if not spherical:
        return centroids
    norms = np.linalg.norm(centroids, axis=1, keepdims=True)
    unit: Vectors = (centroids / np.where(norms > 0, norms, 1)).astype(np.float32)
    return unit
