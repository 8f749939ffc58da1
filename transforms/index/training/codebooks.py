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

_ITERATIONS: Final = 8
"""Of k-means in each subspace, where faiss takes 25: the time of this part goes with it.

On 50,000 picture embeddings with `OPQ64_256,IVF1024,PQ64`, recall@10 at 64 lists was .708 with 32,768 residuals and 8
iterations, .706 with 10, .709 with 25, and .707 with 50,000 residuals and 10 (means of two seeds, which are ±.004).
"""

_ROWS: Final = 32_768
"""Residuals for codebooks: 128 for each of 256 centroids."""

_FEW_ROWS: Final = 16_384
_ITERATIONS_OF_FEW: Final = 25
"""Of fewer residuals than that: as many as faiss takes, for what costs little anyway."""

_FAST_NUMBERS: Final = 1 << 17
"""Numbers (rows times components) from which on faiss 1.15.1 takes 0.3 ns a distance and not 3, for few components."""

_MOST_COPIES: Final = 8


def rows_wanted(components: int) -> int:
    """Returns how many residuals to train on, for so many components a subspace: 32,768, and more where that is faster.

    >>> rows_wanted(4), rows_wanted(2), rows_wanted(1)
    (32768, 65536, 65536)
    """
    return min(max(_ROWS, _FAST_NUMBERS // components), 2 * _ROWS)


def iterations(rows: int) -> int:
    """Returns the iterations of k-means on so many residuals.

    >>> iterations(65_536), iterations(1000)
    (8, 25)
    """
    return _ITERATIONS if rows >= _FEW_ROWS else _ITERATIONS_OF_FEW


def train_codebooks(
    residuals: NDArray[np.float32], subspaces: int, bits: int, seed: int, workers: int = 1
) -> NDArray[np.float32]:
    """Returns codebooks, float32 `(subspaces, 2^bits, d / subspaces)`, for residuals, float32 `(n, d)`.

    The number of `workers`, threads, changes no bit: a subspace is one thread's.
    """
    count, size = 1 << bits, residuals.shape[1] // subspaces
    copies = -(-_FAST_NUMBERS // max(residuals.shape[0] * size, 1))
    if copies > _MOST_COPIES:
        copies = 1

    def train(subspace: int) -> NDArray[np.float32]:
        clustering = faiss.Clustering(size, count)
        clustering.niter = iterations(len(residuals))
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
