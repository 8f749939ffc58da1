"""Queries that are made of several: weighted, less a concept, or with what is found first."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError

Vectors = NDArray[np.float32]


def combined(vectors: Vectors, weights: Sequence[float]) -> Vectors:
    """Returns the sum, float32 `(1, d)`, of vectors `(n, d)` that are made 1 long, each times its weight.

    Raises:
        UsageError: there are more weights or fewer, one is no number, or the sum has no direction.
    """
    if len(weights) != len(vectors):
        raise UsageError(f"{len(weights)} weights for {len(vectors)} queries: give one for each, in their order")
    if not np.isfinite(weights).all():
        raise UsageError("a weight is not finite: take a number")
    return _directed(np.asarray(weights, np.float64) @ _unit(vectors))[None]


def without(vectors: Vectors, concepts: Vectors) -> Vectors:
    """Returns vectors, float32 `(q, d)`, less the concepts `(n, d)`: all are made 1 long, and the difference is taken.

    Raises:
        UsageError: of a query nothing is left.
    """
    if not len(concepts):
        return vectors
    return np.stack([_directed(one - _unit(concepts).sum(axis=0)) for one in _unit(vectors)])


def expanded(vectors: Vectors, found: Callable[[], Sequence[tuple[Vectors, Sequence[float]]]], alpha: float) -> Vectors:
    """Alpha query expansion: adds to each query what it finds first, each result times its cosine to the `alpha`.

    (Radenović, Tolias, Chum: "Fine-tuning CNN image retrieval with no human annotation", 2018.) Results with a cosine
    below 0 add nothing. A larger alpha trusts the nearest more; 0 is the plain average.

    Args:
        vectors: queries, float32 `(q, d)`.
        found: searches; returns for each query the vectors of its results, `(n, d)`, and their cosines.
        alpha: at least 0.

    Raises:
        UsageError: alpha is below 0.
    """
    if alpha is None or not 0 <= alpha < np.inf:
        raise UsageError(f"alpha is {alpha}: take 0 or more")
    more = []
    for query, (neighbours, cosines) in zip(_unit(vectors), found(), strict=True):
        weights = np.clip(np.asarray(cosines, np.float64), 0, None) ** alpha * (np.asarray(cosines) > 0)
        more.append(_directed(query + weights @ _unit(neighbours) if len(neighbours) else query))
    return np.stack(more)


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    if not np.isfinite(exact).all():
        raise UsageError("a query vector is not finite: it holds NaN or infinity")
    largest = np.abs(exact).max(axis=-1, keepdims=True)
    if not largest.all():
        raise UsageError("a query vector is zero: it has no direction")
    exact = exact / largest
    lengths: NDArray[np.float64] = np.linalg.norm(exact, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = exact / lengths
    return unit


def _directed(vector: NDArray[np.float64]) -> Vectors:
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise UsageError("the queries cancel each other: nothing is left to search for")
    return (vector / length).astype(np.float32)
