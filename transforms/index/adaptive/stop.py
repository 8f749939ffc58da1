"""Where a query stops: lists that hardly hold one of its nearest rows are not scanned.

Scores of the rows of a list are taken as normal, with the mean and the spread that `spread.Spread` gives for the query.
They say, before any code is scanned, which score the best so many rows of all lists will reach: that of as many
expected rows (the *bar* of the query). A list is probed where its mean is less than `margin` standard deviations below
the bar. So a query whose neighbours lie together probes few lists, and one that lies between many lists probes many, at
one margin for all, which `pixdex tune` chooses.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.adaptive.spread import Spread
from transforms.records import Metric

CANDIDATES: Final = 2
"""Times the lists of a fixed `nprobe`: so many are looked at, of which some are probed. More find no more."""

EXPECTED: Final = 6
"""Times the rows that are wanted, whose score is the bar: of the sets tried 3 to 10 scanned the fewest codes."""

NARROWER: Final = 0.5
"""Times the spread, in which the bar is looked for: rows of a list end sooner than those of a normal distribution."""

_LISTS_AT_ONCE: Final = 1 << 14
"""Lists of some queries, whose bars are looked for together: 70 bytes each, several times."""

_STEPS: Final = 16
"""The bar is looked for between so many scores, and between two of them by their proportions."""


@dataclass(frozen=True)
class Stop:
    """Which of the nearest lists a query probes.

    Attributes:
        margin: standard deviations that the mean of a list may be below the bar.
        rows: that the query wants.
    """

    margin: float
    rows: int


def probed_lists(
    spread: Spread,
    metric: Metric,
    queries: NDArray[np.float32],
    lists: NDArray[np.int64],
    nearness: NDArray[np.float32],
    stop: Stop,
) -> NDArray[np.bool_]:
    """Tells which of the nearest lists each query probes: the nearest always, bool `(q, n)`.

    Args:
        spread: of the lists.
        metric: `ip` or `l2`.
        queries: float32 `(q, d)`, in the space of the centroids.
        lists: int64 `(q, n)`, those nearest to each query, -1 where there is none.
        nearness: float32 `(q, n)`: products with their centroids, or squared distances.
        stop: where a query stops.

    Cost: 1,024 products for each list of a query, whose factors are 4 kB that lie somewhere in memory.
    """
    probed = np.empty(lists.shape, np.bool_)
    at_once = max(1, _LISTS_AT_ONCE // max(1, lists.shape[1]))
    for start in range(0, len(lists), at_once):
        part = slice(start, start + at_once)
        some = lists[part]
        mean, deviation = scores(spread, metric, queries[part], some, nearness[part])
        rows = np.where(some >= 0, spread.rows[some], 0).astype(np.float32)
        bar = _bar(mean, NARROWER * deviation, rows, float(EXPECTED * stop.rows))
        probed[part] = (mean + np.float32(stop.margin) * deviation >= bar[:, None]) & (some >= 0)
    probed[:, :1] = lists[:, :1] >= 0
    return probed


def scores(
    spread: Spread,
    metric: Metric,
    queries: NDArray[np.float32],
    lists: NDArray[np.int64],
    nearness: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns mean and standard deviation of the scores of the rows of some lists, float32 `(q, n)` both."""
    onto = np.einsum("qd,dm->qm", queries, spread.axes)  # without the threads of BLAS, which spin on between scans
    spreads = np.empty(lists.shape, np.float32)
    for place, numbers in enumerate(lists):
        along = spread.factors[numbers] @ onto[place].astype(spread.factors.dtype, copy=False)
        if metric == "l2":
            along = along + spread.offsets[numbers]
        spreads[place] = np.einsum("ij,ij->i", along, along, dtype=np.float32)
    if metric == "l2":
        variance = 4 * (spreads + spread.rest[lists] * nearness) + spread.noise[lists]
        mean = -(nearness + spread.centre[lists])
    else:
        lengths = np.einsum("ij,ij->i", queries, queries)
        variance = spreads + spread.rest[lists] * lengths[:, None]
        mean = spread.centre[lists] * nearness
    return mean, np.sqrt(np.maximum(variance, np.float32(1e-20)))


def _bar(
    mean: NDArray[np.float32], deviation: NDArray[np.float32], rows: NDArray[np.float32], wanted: float
) -> NDArray[np.float32]:
    """The score that about `wanted` rows of each query's lists exceed, float32 `(q,)`."""
    lowest = np.where(rows > 0, mean, np.float32(np.inf)).min(axis=1, keepdims=True)
    highest = np.where(rows > 0, mean + 4 * deviation, np.float32(-np.inf)).max(axis=1, keepdims=True)
    low, step = np.where(highest > lowest, lowest, 0), np.where(highest > lowest, (highest - lowest) / _STEPS, 0)
    tried = (low + step * np.arange(_STEPS + 1, dtype=np.float32)).astype(np.float32)
    narrow = np.float32(1) / deviation
    shares = _normal(np.asarray((mean * narrow)[:, None] - tried[:, :, None] * narrow[:, None], np.float32))
    above = np.matmul(shares, rows[:, :, None])[:, :, 0]  # fewer and fewer
    last = np.clip((above > wanted).sum(axis=1) - 1, 0, _STEPS - 1)
    places = np.arange(len(last))
    # Between two scores they get fewer as in the tail of a distribution.
    more, fewer = (np.log(np.maximum(above[places, last + beyond], np.float32(1e-9))) for beyond in (0, 1))
    between = np.clip((more - np.float32(math.log(wanted))) / np.maximum(more - fewer, np.float32(1e-6)), 0, 1)
    return np.asarray(tried[places, last] + between * step[:, 0], np.float32)


def _normal(deviations: NDArray[np.float32]) -> NDArray[np.float32]:
    """The normal distribution function, within 0.0002: the logistic function of a cubic (Page 1977)."""
    cubic = deviations * (np.float32(-1.5976) - np.float32(0.07056) * deviations * deviations)
    return np.asarray(np.float32(1) / (1 + np.exp(np.minimum(cubic, np.float32(80)))), np.float32)
