"""Where a query stops: lists that hardly hold one of its nearest rows are not scanned.

Scores of the rows of a list are taken as normal, with the mean and the spread that `spread.Spread` gives for the query.
They say, before any code is scanned, which score the best so many rows of all lists will reach: that of as many
expected rows (the *bar* of the query). A list is probed where its mean is less than `margin` standard deviations below
the bar. So a query whose neighbours lie together probes few lists, and one that lies between many lists probes many, at
one margin for all, which `pixdex tune` chooses.
"""

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

_STEPS: Final = 12
"""The bar is looked for among so many scores, and then among so many between two of them."""


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
    mean, deviation = scores(spread, metric, queries, lists, nearness)
    rows = np.where(lists >= 0, spread.rows[lists], 0).astype(np.float32)
    bar = _bar(mean, NARROWER * deviation, rows, float(EXPECTED * stop.rows))
    probed: NDArray[np.bool_] = (mean + np.float32(stop.margin) * deviation >= bar[:, None]) & (lists >= 0)
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
    there = rows > 0
    low = np.where(there, mean, np.float32(np.inf)).min(axis=1)
    high = np.where(there, mean + 4 * deviation, np.float32(-np.inf)).max(axis=1)
    some = there.any(axis=1)
    low, high = np.where(some, low, np.float32(0)), np.where(some, high, np.float32(0))
    steps = np.arange(_STEPS + 1, dtype=np.float32) / _STEPS
    narrow: NDArray[np.float32] = np.float32(1) / deviation
    for _ in range(2):
        tried = (low[:, None] + (high - low)[:, None] * steps).astype(np.float32)
        shares = _normal(np.asarray((mean[:, None] - tried[:, :, None]) * narrow[:, None], np.float32))
        above = np.einsum("qsn,qn->qs", shares, rows)  # fewer and fewer
        last = np.clip((above > wanted).sum(axis=1) - 1, 0, _STEPS - 1)[:, None]
        low, high = (np.take_along_axis(tried, last + beyond, axis=1)[:, 0] for beyond in (0, 1))
    return np.asarray((low + high) / 2, np.float32)


def _normal(deviations: NDArray[np.float32]) -> NDArray[np.float32]:
    """The normal distribution function, within 0.0002: the logistic function of a cubic (Page 1977)."""
    cubic = deviations * (np.float32(-1.5976) - np.float32(0.07056) * deviations * deviations)
    return np.asarray(np.float32(1) / (1 + np.exp(np.minimum(cubic, np.float32(80)))), np.float32)
