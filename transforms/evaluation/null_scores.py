"""Null scores: what queries that mean nothing find, and from which score on a result says more than that.

The best score of a query that means nothing is a maximum over all rows: it grows with their number, and no fixed score
is above it everywhere. So queries are made that have mean and covariance of real ones and nothing else in common with
them, what is nearest to each is found among a sample of rows, and quantiles of that are the cut-offs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.records import Metric

Vectors = NDArray[np.float32]

LEAST: Final = 64
"""Rows, and real queries, without which nothing can be said of scores."""

NEAR: Final = 0.02
"""Share of null queries whose nearest row is near enough to be a result."""

APART: Final = 0.005
"""Share of null queries whose nearest rows stand apart from the others as much as results do."""

_DEPTH: Final = 0.004
"""Share of the rows that stand apart where a query means many of them."""

_NULL_QUERIES: Final = 4096
_OF_L1: Final = 512
"""The same where each costs a subtraction of every component, and no product."""

_FEWER: Final = 16
"""One row in so many tells how the nearest distance falls as rows become more."""

_TINY: Final = 1e-6


@dataclass(frozen=True, eq=False)
class NullScores:
    """What rows must score to be results of a query, calibrated by queries that mean nothing.

    A row is a result if it is nearer than null queries get to any row (`near`), or if the query has many rows that
    stand apart from the others (`apart`) and it is one of these. A distance is 1 less the cosine, squared L2, or L1.

    Attributes:
        rows: a sample of the rows that may be found, float32 `(m, d)`; 1 long where scores are cosines.
        like: real queries, or what stands for them, float32 `(n, d)`, likewise.
        metric: `ip` for cosines.
        near: the distance that a share `NEAR` of null queries has some row within, of all rows.
        apart: how many standard deviations of its distances to all rows the nearest 0.4 % of rows of a null query stand
            before their mean, but for a share `APART` of them.
    """

    rows: Vectors
    like: Vectors
    metric: Metric
    near: float
    apart: float

    @classmethod
    def of(cls, rows: Vectors, like: Vectors, metric: Metric, total: int, seed: int = 0) -> "NullScores":
        """Calibrates.

        Null queries are drawn from the normal distribution with mean and covariance of real ones. Where there are more
        rows than were sampled, the nearest distance falls by a power of their number, which one row in 16 of the sample
        tells: the tail that has an end (Amsaleg et al. 2015, "Estimating Local Intrinsic Dimensionality"). That nearest
        distances of known rows tell what is foreign is from Sun et al. 2022, "Out-of-Distribution Detection with Deep
        Nearest Neighbors".

        Args:
            rows: a sample of the rows that may be found, float32 `(m, d)`.
            like: real queries, such as captions of the root, float32 `(n, d)`; both 1 long for cosines.
            metric: of the scores; `ip` for cosines.
            total: rows that may be found, m or more.
            seed: of null queries; equal ones give equal cut-offs, which are rounded to four digits, since sums of
                products differ from machine to machine in the last.

        Raises:
            UsageError: there are fewer than 64 rows or real queries.

        Cost: 4,096 · (m + n) · d products and a partial sort of 4,096 · m distances: of 4,096 rows and real queries
        about a second on two cores at 64 components, two at 512; of L1 an eighth of the queries. 64 MB.
        """
        if min(len(rows), len(like)) < LEAST:
            raise UsageError(f"scores of {len(rows)} rows and {len(like)} queries tell nothing: {LEAST} are the least")
        queries = null_queries(like, _OF_L1 if metric == "l1" else _NULL_QUERIES, seed, unit=metric == "ip")
        nearest, nearest_of_few, standing = (np.empty(len(queries)) for _ in range(3))
        for block, between in _distances(queries, rows, metric):
            nearest[block], nearest_of_few[block] = between.min(axis=1), between[:, ::_FEWER].min(axis=1)
            _, _, standing[block] = _standing(between)
        near = np.quantile(np.maximum(nearest, _TINY), NEAR)
        if total > len(rows):
            levels = np.linspace(NEAR / 3, 3 * NEAR, 10)
            of_all, of_few = (np.quantile(np.maximum(some, _TINY), levels) for some in (nearest, nearest_of_few))
            falls = max(0.0, float(np.log(of_few / of_all).mean())) / math.log(len(rows) / len(rows[::_FEWER]))
            near *= (total / len(rows)) ** -falls
        return cls(rows, like, metric, _rounded(near), _rounded(np.quantile(standing, 1 - APART)))

    def cut_offs(self, queries: Vectors) -> NDArray[np.float32]:
        """Returns the score of each query, of vectors float32 `(q, d)`, from which on rows are its results: `(q,)`.

        Of cosines the least, of distances the largest. Cost: q · m · d products.
        """
        furthest = np.empty(len(queries))
        for block, between in _distances(queries, self.rows, self.metric):
            means, spreads, standing = _standing(between)
            of_many = np.where(standing >= self.apart, means - self.apart * spreads, self.near)
            furthest[block] = np.maximum(self.near, of_many)
        return (1 - furthest if self.metric == "ip" else furthest).astype(np.float32)

    def losing(self, most: int = 512) -> float:
        """Returns the share of the real queries, of `most` of them, that find no row of the sample.

        Where the rows that they are about are in the sample, that is what real queries lose. Cost: most · m · d
        products.
        """
        some = self.like[:: max(1, len(self.like) // most)]
        found = np.empty(len(some), np.bool_)
        sign, cut_offs = (1 if self.metric == "ip" else -1), self.cut_offs(some)
        for block, between in _distances(some, self.rows, self.metric):
            best = between.min(axis=1)
            found[block] = sign * (1 - best if self.metric == "ip" else best) >= sign * cut_offs[block]
        return float(1 - found.mean())

    def nearest_like(self, queries: Vectors) -> NDArray[np.float32]:
        """Returns how near each query is to the nearest of the real ones, float32 `(q,)`: which kind it is of."""
        found = np.empty(len(queries), np.float32)
        for block, between in _distances(queries, self.like, self.metric):
            found[block] = between.min(axis=1)
        return found


def null_queries(like: Vectors, count: int, seed: int, *, unit: bool) -> Vectors:
    """Returns queries that mean nothing, float32 `(count, d)`: normal, with mean and covariance of real ones.

    Args:
        like: real queries, float32 `(n, d)`.
        count: of queries.
        seed: of what is drawn.
        unit: they are made 1 long.
    """
    mean = like.mean(axis=0, dtype=np.float64).astype(np.float32)
    # Sums of the deviations of real queries with normal weights have their covariance, and need no eigenvectors.
    weights = np.random.default_rng(seed).standard_normal((count, len(like)), np.float32)
    made = mean + weights @ (like - mean) / np.float32(math.sqrt(len(like) - 1))
    if unit:
        made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), _TINY)
    return np.asarray(made, np.float32)


def _distances(queries: Vectors, rows: Vectors, metric: Metric) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yields some queries at a time, and their distances to all rows."""
    lengths = np.square(rows).sum(axis=1)
    for start in range(0, len(queries), 1024):
        some = queries[start : start + 1024]
        if metric == "l1":
            between = np.stack([np.abs(rows - one).sum(axis=1) for one in some])
        elif metric == "ip":
            between = 1 - some @ rows.T
        else:
            between = np.maximum(np.square(some).sum(axis=1, keepdims=True) + lengths - 2 * some @ rows.T, 0)
        yield slice(start, start + len(some)), between


def _standing(between: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread of each query's distances, and by how many spreads the nearest of rows are before the mean."""
    place = max(0, round(_DEPTH * between.shape[1]) - 1)
    means, spreads = between.mean(axis=1, dtype=np.float64), between.std(axis=1, dtype=np.float64)
    return means, spreads, (means - np.partition(between, place, axis=1)[:, place]) / np.maximum(spreads, _TINY)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
