"""Where a query stops: lists that hardly hold one of its nearest rows are not scanned.

Scores of the rows of a list are taken as logistic, with the mean and the spread that `spread.Spread` gives for the
query: a normal distribution finds no better where to stop, and takes longer to work out. They say, before any code is
scanned, which score the best so many rows of all lists will reach: that of as many expected rows (the *bar* of the
query). A list is probed where its mean is less than `margin` standard deviations below the bar. So a query whose
neighbours lie together probes few lists, and one that lies between many lists probes many, at one margin for all, which
`pixdex tune` chooses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.adaptive.spread import Spread
from transforms.records import Metric

CANDIDATES: Final = 2
"""Times the lists of a fixed `nprobe`: so many are looked at, of which some are probed. More find no more."""

EXPECTED: Final = 4
"""Times the rows that are wanted, whose score is the bar: of the sets tried 3 to 6 scanned the fewest codes."""

NARROWER: Final = 0.8
"""Times the spread, in which the bar is looked for: rows of a list end sooner than those of a logistic distribution."""

_LISTS_AT_ONCE: Final = 1 << 14
"""Lists of some queries, whose bars are looked for together: 70 bytes each, several times."""

_STEPS: Final = 16
"""The bar is looked for between so many scores, and between two of them by their proportions."""

_REACH: Final = np.float32(4 * NARROWER)
"""Standard deviations above its mean that a list reaches at most."""

_STEEPNESS: Final = np.float32(math.pi / math.sqrt(12) / NARROWER)
"""Of a logistic distribution, as the hyperbolic tangent has it, whose standard deviation is 1 x `NARROWER`."""

_PLACES: Final = np.arange(_STEPS + 1, dtype=np.float32)


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
    there = lists >= 0
    if not there.all():  # where there is none, what faiss says of it is not finite
        lists = np.maximum(lists, 0)
        nearness = np.where(there, nearness, np.where(there[:, :1], nearness[:, :1], 0))
    probed = np.empty(lists.shape, np.bool_)
    at_once = max(1, _LISTS_AT_ONCE // max(1, lists.shape[1]))
    for start in range(0, len(lists), at_once):
        part = slice(start, start + at_once)
        mean, deviation = scores(spread, metric, queries[part], lists[part], nearness[part])
        rows = spread.rows[lists[part]] * there[part]
        bar = _bar(mean, deviation, rows, float(EXPECTED * stop.rows))
        probed[part] = mean + np.float32(stop.margin) * deviation >= bar[:, None]
    probed[:, :1] = True
    probed &= there
    return probed


def scores(
    spread: Spread,
    metric: Metric,
    queries: NDArray[np.float32],
    lists: NDArray[np.int64],
    nearness: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns mean and standard deviation of the scores of the rows of some lists, float32 `(q, n)` both."""
    along = spread.along(queries, lists)
    if metric == "l2":
        along += spread.offsets[lists]
    spreads = np.einsum("qnr,qnr->qn", along, along)
    rest = spread.rest[lists]
    if metric == "l2":
        variance = 4 * (spreads + rest * nearness) + spread.noise[lists]
        mean = -(nearness + spread.centre[lists])
    else:
        variance = spreads + rest * np.einsum("ij,ij->i", queries, queries)[:, None]
        mean = spread.centre[lists] * nearness
    return mean, np.sqrt(np.maximum(variance, np.float32(1e-20)))


def _bar(
    mean: NDArray[np.float32], deviation: NDArray[np.float32], rows: NDArray[np.float32], wanted: float
) -> NDArray[np.float32]:
    """The score that about `wanted` rows of each query's lists exceed, float32 `(q,)`.

    As few calls as can be: of a single query, whose arrays are small, each takes longer than what it works out.
    """
    # A list without rows counts as the first that has some: its score may be anywhere.
    there = rows > 0
    first = mean[np.arange(len(mean)), np.argmax(there, axis=1), None]
    lowest = np.where(there, mean, first).min(axis=1)
    width = (np.where(there, mean + _REACH * deviation, first).max(axis=1) - lowest) / _STEPS
    tried = lowest[:, None] + width[:, None] * _PLACES
    curves = np.tanh((mean[:, None] - tried[:, :, None]) * (_STEEPNESS / deviation)[:, None])
    above = (np.matmul(curves, rows[:, :, None])[:, :, 0] + rows.sum(axis=1, keepdims=True)).tolist()
    steps = [_steps_to(2 * wanted, twice) for twice in above]
    return np.asarray(lowest + width * np.array(steps, np.float32), np.float32)


def _steps_to(wanted: float, expected: Sequence[float]) -> float:
    """How many steps up the bar lies, where fewer and fewer rows are expected above each."""
    last = next((step for step, rows in enumerate(expected) if rows <= wanted), _STEPS + 1) - 1
    if not 0 <= last < _STEPS:
        return float(min(max(last, 0), _STEPS))
    # Between two scores they get fewer as in the tail of a distribution.
    more, fewer = expected[last], max(expected[last + 1], 1e-9)
    return last + math.log(more / wanted) / math.log(more / fewer)
