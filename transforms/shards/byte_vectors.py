"""Vectors as a byte a component: which of the two steps beside a value it becomes, so that scores keep their order.

The nearest step is the best for a value, but not for a score, whose error is the product of the query and of all errors
of a row. Rows, and the queries that look for them, share few directions. So the values of a row are rounded one after
the other, each so that it evens out what those before it did to the score of such a query: errors go where rows have
little. (Babai's nearest plane, 1986; GPTQ, Frantar et al. 2022, does the same to weights.) Reading knows nothing of it:
a value is lowest + step * byte, as of the nearest step.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVELS: Final = 255
ROUNDING: Final = "evened"
"""The name of this way to round, in the digest of a task: it has another one when other bytes are made."""

COMPONENTS_TOGETHER: Final = 2048
"""Components whose errors even each other out: as many, and the rows below, are in memory as float64."""

ROWS_AT_ONCE: Final = 1024

_UNLIKE: Final = 0.3
"""How much of a query is assumed to be like no row, as a share of the mean square of a component. Errors are longer by
8 % (3 % at 1), which is what a query sees that is nothing like the rows."""

_GRID: Final = 4096
"""Parts of a step in which errors and what evens them out are counted: their sums are exact in float64, in whatever
order a product adds them up. So equal rows get equal bytes."""

_MOST: Final = 8
"""Steps of a component that one step of another may be evened out by; a component has one at a time."""

_BLOCK: Final = 32


def as_bytes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Returns the bytes of vectors `(n, d)`, and their scales, float32 `(2, d)`: lowest values and steps.

    The scales span these very vectors, so that none lies outside. A value is off by less than a step, a 255th of what
    its component spans; one that lies on a step is exact.

    Cost: n · d · min(d, 2,048) multiplications, and of so many components their products with each other.
    """
    count, dim = vectors.shape
    stored = np.zeros((count, dim), np.uint8)
    if not count:
        return stored, np.zeros((2, dim), np.float32)
    lowest = vectors.min(axis=0)
    steps = ((vectors.max(axis=0) - lowest) / np.float32(LEVELS)).astype(np.float32)
    varying = np.flatnonzero(steps > 0)
    for some in np.array_split(varying, -(-len(varying) // COMPONENTS_TOGETHER) or 1):
        stored[:, some] = _rounded(vectors[:, some], lowest[some], steps[some])
    return stored, np.stack([lowest, steps])


def _rounded(
    vectors: NDArray[np.float32], lowest: NDArray[np.float32], steps: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Returns the bytes of some components that vary, and are rounded together."""
    order, evening = _evening(vectors, steps)
    stored = np.empty(vectors.shape, np.uint8)
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        values = (vectors[rows, order] - lowest[order]) / steps[order]
        values = np.clip(np.rint(values * np.float32(_GRID)) / np.float32(_GRID), 0, LEVELS)
        below = np.floor(values)
        stored[rows, order] = below + _raised((values - below).T.astype(np.float64, order="C"), evening).T
    return stored


def _evening(vectors: NDArray[np.float32], steps: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns in which order components are rounded, and how errors of earlier ones are evened out by later ones.

    The squared error of a score is expected to be Σ vᵢ (eᵢ + Σ evening[i, j] eⱼ)², j before i, of errors e in steps.
    The component that matters most comes first, for the last has none behind it that evens it out.
    """
    products = _expected_products(vectors) * steps * steps[:, None].astype(np.float64)
    backward = np.argsort(np.diag(products), kind="stable")
    lower = np.linalg.cholesky(products[np.ix_(backward, backward)])
    evening = np.clip((lower / np.diag(lower)).T[::-1, ::-1], -_MOST, _MOST)
    return backward[::-1], np.ascontiguousarray(np.rint(evening * _GRID) / _GRID)


def _expected_products(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns what products of two components of a query are expected to be: as of rows, and a little as of any vector.

    Of few rows the products are partly chance, and are shrunk by as much (Ledoit and Wolf, 2004).
    """
    count, dim = vectors.shape
    products, fourth = np.zeros((dim, dim)), 0.0
    for first in range(0, count, ROWS_AT_ONCE):
        rows = vectors[first : first + ROWS_AT_ONCE].astype(np.float64)
        products += rows.T @ rows
        fourth += float((np.einsum("nd,nd->n", rows, rows) ** 2).sum())
    products /= count
    mean, spread = float(np.trace(products)) / max(dim, 1), float((products**2).sum())
    chance, differing = max(0.0, fourth / count - spread) / count, spread - dim * mean**2
    share = min(chance / differing, 0.999) if differing > 0 else 0.999
    products[np.diag_indices(dim)] += mean * (_UNLIKE + share / (1 - share))
    return products


def _raised(rests: NDArray[np.float64], evening: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tells which values go to the step above, of the rests `(d, n)` that they are above the one below."""
    errors = np.empty_like(rests)
    for first in range(0, len(rests), _BLOCK):
        stop = min(first + _BLOCK, len(rests))
        carried = evening[first:stop, :first] @ errors[:first]
        for at in range(first, stop):
            left = carried[at - first] + evening[at, first:at] @ errors[first:at]
            errors[at] = ((rests[at] > 0) & (rests[at] - left > 0.5)) - rests[at]
    return errors > 0
