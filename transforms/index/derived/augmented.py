"""Database-side augmentation: each vector is replaced by the weighted sum of itself and its nearest neighbours."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_NEIGHBOUR: Final = -1

_ROWS_AT_ONCE: Final = 512


def augmented(
    vectors: NDArray[np.float32], neighbours: NDArray[np.float32], places: NDArray[np.int64], alpha: float
) -> NDArray[np.float32]:
    """Returns vectors with their neighbours added: of unit vectors normalise(v + sum of max(cosine, 0)^alpha * n).

    Database-side feature augmentation is of Arandjelović and Zisserman, "Three things everyone should know to improve
    object retrieval" (CVPR 2012); the weights are those of alpha query expansion, of Radenović, Tolias and Chum,
    "Fine-tuning CNN image retrieval with no human annotation" (TPAMI 2018). A vector keeps its length, whatever it is:
    what is added is a direction. One without a neighbour whose cosine is above 0 is returned as it is, to the bit.

    Args:
        vectors: float32 `(n, d)`, none of them zero.
        neighbours: float32 `(m, d)`.
        places: int64 `(n, k)`, the rows of `neighbours` that are those of each vector; `NO_NEIGHBOUR` is none.
        alpha: at least 0. A larger one trusts the nearest more; 0 is the plain sum.

    Returns:
        float32 `(n, d)`.

    Cost: 4 * n * k * d multiplications; memory is that of the result, and 512 vectors in float64, four times.
    """
    made = vectors.copy()
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        own = vectors[part].astype(np.float64)
        lengths = np.linalg.norm(own, axis=1, keepdims=True)
        # A vector without a direction has no neighbours by direction either, and stays as it is.
        unit = own / np.where(lengths > 0, lengths, 1)
        total = unit.copy()
        for mine in places[part].T:
            there = np.flatnonzero(mine != NO_NEIGHBOUR)
            others = neighbours[mine[there]].astype(np.float64)
            others /= np.maximum(np.linalg.norm(others, axis=1, keepdims=True), np.finfo(np.float64).tiny)
            cosines = np.einsum("nd,nd->n", unit[there], others)
            weights = np.where(cosines > 0, np.clip(cosines, 0, None) ** alpha, 0.0)
            total[there] += weights[:, None] * others
        changed = np.flatnonzero((total != unit).any(axis=1) & (lengths[:, 0] > 0))
        moved = total[changed] / np.linalg.norm(total[changed], axis=1, keepdims=True)
        made[start + changed] = moved * lengths[changed]
    return made


def places_of(counts: NDArray[np.int64], ids: NDArray[np.int64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Returns the first `k` rows that were found of each query, but for its own: ids, int64 `(n, k)`.

    Args:
        counts: int64 `(n,)`, how many were found of each.
        ids: int64 `(sum,)`, query after query, the nearest first.
        own: int64 `(n,)`, the id of each query, which is no neighbour of itself.
        k: neighbours that are wanted; where fewer were found, `NO_NEIGHBOUR` stands for the others.

    >>> places_of(np.array([3, 1]), np.array([7, 4, 5, 9]), np.array([4, 9]), 2).tolist()
    [[7, 5], [-1, -1]]
    """
    queries = np.repeat(np.arange(len(counts)), counts)
    others = ids != own[queries]
    queries, ids = queries[others], ids[others]
    first = np.searchsorted(queries, np.arange(len(counts)))
    ranks = np.arange(len(queries)) - first[queries]
    near = ranks < k
    found = np.full((len(counts), k), NO_NEIGHBOUR, np.int64)
    found[queries[near], ranks[near]] = ids[near]
    return found
