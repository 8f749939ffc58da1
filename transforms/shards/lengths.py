"""How long a vector may be that is indexed, or asked for, as it is."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LARGEST_SQUARE: Final = 1e30
"""Largest squared norm of a vector that is not normalised.

float32 ends at 3.4e38. An inner product of two such vectors is at most this, a squared distance four times it, and
training adds up to 10⁸ of them: all of these are still numbers. Rows of float16 cannot be so long.
"""

TOO_LONG: Final = (
    f"the vector's squared norm is above {LARGEST_SQUARE:g}: its inner products overflow float32 "
    "(scale the vectors down, or leave out --no-normalize)"
)


def too_long(vectors: NDArray[Any]) -> NDArray[np.bool_]:
    """Tells which of float16 or float32 vectors `(n, d)`, finite, are too long: bool `(n,)`."""
    long = np.zeros(len(vectors), np.bool_)
    if vectors.dtype == np.float16 or not vectors.size:
        return long
    # A square is at most d times that of the largest component, which is seen without running over.
    largest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1)).astype(np.float64)
    some = np.flatnonzero(largest > np.sqrt(LARGEST_SQUARE / vectors.shape[1]))
    wide = vectors[some].astype(np.float64)
    long[some] = np.einsum("ij,ij->i", wide, wide) > LARGEST_SQUARE
    return long
