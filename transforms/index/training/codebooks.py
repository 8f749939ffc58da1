"""Codebooks of a product quantizer: k-means in every subspace, several subspaces at a time.

faiss trains one subspace after the other, each on all threads; a subspace has few components, so that its threads
mostly wait for each other. Here a thread has subspaces of its own.
"""

from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.threads import each_with_one_thread
from transforms.index.training.clustering import faiss_seed
from transforms.index.training.figures import FAST_NUMBERS, codebook_iterations

_MOST_COPIES: Final = 8


def train_codebooks(
    residuals: NDArray[np.float32], subspaces: int, bits: int, seed: int, workers: int = 1
) -> NDArray[np.float32]:
    """Returns codebooks, float32 `(subspaces, 2^bits, d / subspaces)`, for residuals, float32 `(n, d)`.

    The number of `workers`, threads, changes no bit: a subspace is one thread's.
    """
    count, size = 1 << bits, residuals.shape[1] // subspaces
    copies = -(-FAST_NUMBERS // max(residuals.shape[0] * size, 1))
    if copies > _MOST_COPIES:
        copies = 1

    def train(subspace: int) -> NDArray[np.float32]:
        clustering = faiss.Clustering(size, count)
        clustering.niter = codebook_iterations(len(residuals))
        clustering.seed = faiss_seed(seed)
        clustering.min_points_per_centroid = 1
        clustering.max_points_per_centroid = copies * len(residuals)
        # Copies change no mean, and bring few rows to where faiss is fast.
        part = np.tile(residuals[:, subspace * size : (subspace + 1) * size], (copies, 1))
        clustering.train(part, faiss.IndexFlatL2(size))
        centroids: NDArray[np.float32] = faiss.vector_to_array(clustering.centroids).reshape(count, size)
        return centroids

    with each_with_one_thread(workers) as pool:
        return np.stack(list(pool.map(train, range(subspaces))))
