"""K-means: faiss's for some vectors, and what makes two levels of it.

One flat k-means of K centroids costs n·K distances an iteration; two levels cost n·√K, and the cells can be clustered
in parallel on machines that hold a few cells each.
"""

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.training.figures import ITERATIONS

_SEED = 1234

Vectors = NDArray[np.float32]


def kmeans(vectors: Vectors, k: int, *, spherical: bool, seed: int) -> Vectors:
    """Clusters vectors, float32 `(n, d)`, and returns centroids, float32 `(k, d)`.

    Of fewer vectors than centroids each is one, again and again: of equal ones the lower gets the rows.
    `spherical` keeps centroids on the unit sphere and assigns by inner product (faiss `Clustering`); without it, by L2.
    faiss's `SuperKMeans` took three times as long for 64 centroids of 3,200 picture embeddings (256 components), and
    twice for 256 of 20,000, with the same objective.
    """
    dim = vectors.shape[1]
    if k == 1:
        return on_sphere(vectors.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32), spherical)
    if len(vectors) < k:
        return on_sphere(np.resize(vectors, (k, dim)), spherical)
    clustering = faiss.Clustering(dim, k)
    clustering.niter = ITERATIONS
    clustering.spherical = spherical
    clustering.seed = faiss_seed(seed)
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = len(vectors)
    clustering.train(np.ascontiguousarray(vectors), _flat(dim, spherical))
    centroids: Vectors = faiss.vector_to_array(clustering.centroids).reshape(k, dim)
    return centroids


def faiss_seed(seed: int) -> int:
    """Returns what faiss's `Clustering` takes for the seed of a request, which may be any number: a C int."""
    return (_SEED + seed) % (1 << 31)


def nearest(vectors: Vectors, centroids: Vectors, *, spherical: bool) -> NDArray[np.int64]:
    """Returns the nearest centroid of every vector: int64 `(n,)`."""
    index = _flat(vectors.shape[1], spherical)
    index.add(np.ascontiguousarray(centroids))
    numbers: NDArray[np.int64] = index.search(np.ascontiguousarray(vectors), 1)[1][:, 0]
    return numbers


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


def on_sphere(centroids: Vectors, spherical: bool) -> Vectors:
    """Brings centroids to length one, in place, if they are `spherical`; a zero stays."""
    if spherical:
        norms = np.linalg.norm(centroids, axis=1, keepdims=True)
        centroids /= np.where(norms > 0, norms, 1)
    return centroids


def _flat(dim: int, spherical: bool) -> faiss.Index:
    return faiss.IndexFlatIP(dim) if spherical else faiss.IndexFlatL2(dim)
