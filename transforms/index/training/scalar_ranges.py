"""Ranges of a scalar quantizer: of each component the steps that cost its rows least.

faiss spans all values that it is trained on, so that its sixteen steps go to a few rows far out. Here the range is the
one with the smallest mean squared error, in which what lies outside counts, too (Max 1960, "Quantizing for minimum
distortion", of equal steps). Codes and their format are faiss's.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

RANGE_ROWS: Final = 8192
"""Rows that ranges are chosen by."""

_SHARES: Final = tuple(share / 20 for share in range(20, 5, -1))
"""Of the way from a component's mean to its lowest and its highest value, both ends alike, the largest first."""

_OFFSETS: Final = (-0.1, -0.05, 0.05, 0.1)
"""By how much the best of them is changed at one end, then at the other: values need not lie evenly about the mean."""

_COMPONENTS_AT_ONCE: Final = 128


def train_ranges(residuals: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Returns the lowest value of each component, then the width of each, float32 `(2 * d,)`, as faiss keeps them.

    `residuals` are float32 `(n, d)`, as they are coded with so many bits a component. Cost: 23 passes over 8,192 rows
    of them, three seconds for 1,280 components.
    """
    some = (
        residuals[:: -(-len(residuals) // RANGE_ROWS)]
        if len(residuals)
        else np.zeros((1, residuals.shape[1]), np.float32)
    )
    parts = [
        _ranges(some[:, first : first + _COMPONENTS_AT_ONCE], 1 << bits)
        for first in range(0, residuals.shape[1], _COMPONENTS_AT_ONCE)
    ]
    return np.concatenate(parts, axis=1).astype(np.float32).reshape(-1)


def _ranges(rows: NDArray[np.float32], levels: int) -> NDArray[np.float64]:
    """Lowest values and widths, float64 `(2, d)`."""
    wide = rows.astype(np.float64)
    mean = wide.mean(axis=0)
    ends = np.stack([wide.min(axis=0), wide.max(axis=0)]) - mean
    wide -= mean
    least, best = np.full(wide.shape[1], np.inf), np.ones(ends.shape)

    def consider(shares: NDArray[np.float64]) -> None:
        bottom, top = shares * ends
        step = (top - bottom) / levels
        level = np.floor((wide - bottom) / np.where(step > 0, step, 1))
        error = ((bottom + (np.clip(level, 0, levels - 1) + 0.5) * step - wide) ** 2).sum(axis=0)
        better = error < least
        least[better] = error[better]
        best[:, better] = shares[:, better]

    for share in _SHARES:
        consider(np.full(ends.shape, share))
    for end in (0, 1):
        found = best.copy()
        for offset in _OFFSETS:
            shares = found.copy()
            shares[end] = np.clip(shares[end] + offset, 0, 1)
            consider(shares)
    bottom, top = best * ends
    # The last of faiss's levels begins where its range ends, so that the range is a step short of what they span.
    return np.stack([mean + bottom, (top - bottom) * (levels - 1) / levels])
