"""Codebooks of a product quantizer: k-means in every subspace, several subspaces at a time.

faiss trains one subspace after the other, each on all threads; a subspace has few components, so that its threads
mostly wait for each other. Here a thread has subspaces of its own.
"""

from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
from numpy.typing import NDArray

ROWS = 65_536
"""Residuals for codebooks: 256 for each of 256 centroids, all that faiss would use."""

ITERATIONS = 10
"""Of k-means in each subspace, where faiss takes 25: the time of this part goes with it."""

_SEED = 1234


def train_codebooks(residuals: NDArray[np.float32], subspaces: int, bits: int, seed: int) -> NDArray[np.float32]:
    """Returns codebooks, float32 `(subspaces, 2^bits, d / subspaces)`, for residuals, float32 `(n, d)`.

    The number of threads changes no bit: a subspace is one thread's.
    """
    count, size = 1 << bits, residuals.shape[1] // subspaces

    def train(subspace: int) -> NDArray[np.float32]:
        faiss.omp_set_num_threads(1)  # of this thread
        clustering = faiss.Clustering(size, count)
        clustering.niter = ITERATIONS
        clustering.seed = (_SEED + seed) % (1 << 31)  # faiss keeps it as a C int
        clustering.min_points_per_centroid = 1
        clustering.max_points_per_centroid = len(residuals)
        part = np.ascontiguousarray(residuals[:, subspace * size : (subspace + 1) * size])
        clustering.train(part, faiss.IndexFlatL2(size))
        centroids: NDArray[np.float32] = faiss.vector_to_array(clustering.centroids).reshape(count, size)
        return centroids

    with ThreadPoolExecutor(faiss.omp_get_max_threads()) as pool:
        return np.stack(list(pool.map(train, range(subspaces))))
