"""Figures of a sample of queries, each with an interval: of 100 samples, that of about 95 holds the true figure."""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_Z: Final = 1.959963984540054
"""The normal quantile that 2.5 % lie beyond."""

_T_OF_FEW: Final = (math.inf, 12.706204736, 4.302652730)
"""The quantile of Student's t of 0, 1 and 2 degrees of freedom, for which the series below is too short."""


@dataclass(frozen=True)
class Estimate:
    """A figure of a sample, with its 95 % confidence interval.

    Attributes:
        value: of the sample; NaN: of nothing.
        low, high: ends of the interval.
        count: values that it was taken of.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Measured:
    """A measure of every query.

    Attributes:
        values: float64 `(q,)`, in the order of the queries.
        mean: of them.
    """

    values: NDArray[np.float64]
    mean: Estimate

    @classmethod
    def of(cls, values: NDArray[np.float64], most: float = 1.0) -> Self:
        """Takes values between 0 and `most`."""
        return cls(values, mean_of(values, 0.0, most))


def mean_of(values: NDArray[np.float64], least: float = -math.inf, most: float = math.inf) -> Estimate:
    """Returns the mean, with the interval of Student's t: mean ± t * standard deviation / sqrt(n).

    It holds what it promises where the mean of so many values is about normal: of recall from some 30 queries on. A
    bootstrap promises no more and needs a seed. Of one value the interval is all that is possible; where all values are
    equal it has no width, however few they are.

    Args:
        values: float64 `(n,)`, of queries that do not depend on each other.
        least, most: between which a value can be; so the interval ends there.

    >>> mean_of(np.array([0.25, 0.5, 0.75]), 0.0, 0.9)
    Estimate(value=0.5, low=0.0, high=0.9, count=3)
    """
    count = len(values)
    if count < 2:
        return Estimate(float(values[0]) if count else math.nan, least, most, count)
    mean = float(values.mean())
    half = _student(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, max(least, mean - half), min(most, mean + half), count)


def share_of(hits: int, count: int) -> Estimate:
    """Returns the share of hits, with the interval of Wilson (1927), which holds of few queries and near 0 and 1, too.

    >>> share_of(9, 10)
    Estimate(value=0.9, low=0.5958499732047615, high=0.9821237869049271, count=10)
    """
    if not count:
        return Estimate(math.nan, 0.0, 1.0, 0)
    share, square = hits / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    # At 0 and 1 rounding would leave the share itself outside.
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)), count)


def _student(freedom: int) -> float:
    """The quantile of Student's t that 2.5 % lie beyond: Abramowitz and Stegun 26.7.5, within 0.1 %."""
    if freedom < len(_T_OF_FEW):
        return _T_OF_FEW[freedom]
    z = _Z
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))
