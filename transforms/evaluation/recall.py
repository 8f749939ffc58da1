"""Recall: which share of the exact neighbours a search found, of each query and of the worst.

A mean hides queries that found little. So `Recall` has beside it the share of queries that reach a recall
(Robustness-δ@K of Wang et al. 2025, "Towards Robustness: A Critique of Current Vector Database Assessments"), and what
the worst 5 % have.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.evaluation.estimates import Estimate, mean_of, share_of
from transforms.records import Metric

NO_ROW: Final = -1
"""Stands where fewer rows were found, or are there."""

_WORST: Final = 20
"""One query in so many is of the worst: 5 %."""


@dataclass(frozen=True)
class Ties:
    """Scores by which a row that is as near as the k-th exact neighbour counts as right, whichever of equals it is.

    Attributes:
        found: scores of the rows that were found, float `(q, r)`. They must be exact: those of codes say nothing.
        exact: scores of the exact neighbours, float `(q, n)`.
        metric: of inner products a higher score is nearer, of distances a lower one.
        tolerance: by how much a score may be worse, in its own unit. Equal rows may differ in the last bits where they
            were scored in batches of other sizes.
    """

    found: NDArray[np.floating[Any]]
    exact: NDArray[np.floating[Any]]
    metric: Metric = "ip"
    tolerance: float = 0.0


@dataclass(frozen=True)
class Recall:
    """Recall of many queries.

    Attributes:
        shares: of each query, float64 `(q,)`; NaN: it has no exact neighbour, and counts nowhere below.
        mean: over the queries.
        reach_half, reach_nine_tenths: share of queries with a recall of at least 0.5, and 0.9.
        p5: the recall that 5 % of the queries stay below, between neighbouring values as `numpy.percentile` takes it.
        worst: mean over the worst 5 % of the queries, rounded up.
    """

    shares: NDArray[np.float64]
    mean: Estimate
    reach_half: Estimate
    reach_nine_tenths: Estimate
    p5: float
    worst: float

    @classmethod
    def of(cls, shares: NDArray[np.float64]) -> Self:
        """Takes what `found_shares` returns. Of no query all figures are NaN."""
        counted = np.sort(shares[~np.isnan(shares)])
        lowest = counted[: -(-len(counted) // _WORST)]
        return cls(
            shares,
            mean_of(counted, 0.0, 1.0),
            share_of(int((counted >= 0.5).sum()), len(counted)),
            share_of(int((counted >= 0.9).sum()), len(counted)),
            float(np.percentile(counted, 100 / _WORST)) if len(counted) else math.nan,
            float(lowest.mean()) if len(counted) else math.nan,
        )


def found_shares(
    found: NDArray[np.int64], exact: NDArray[np.int64], k: int, *, among: int | None = None, ties: Ties | None = None
) -> NDArray[np.float64]:
    """Returns the share of the exact `k` nearest that each query found, float64 `(q,)`.

    Where fewer than `k` rows are there, it is a share of these; where none is, NaN. A row that was found twice counts
    once.

    Args:
        found: ids, nearest first, int64 `(q, r)`, -1 where there is none.
        exact: ids of the exact neighbours, nearest first, int64 `(q, n)`, -1 where there is none.
        k: how many exact neighbours are looked for: recall@k.
        among: how many of the found rows are looked at: k-recall@among; default: `k`.
        ties: counts rows that are as near as the k-th; default: only the rows that `exact` names count.

    Raises:
        UsageError: there are fewer columns than `k` or `among`, or shapes do not agree.

    Memory: some numbers for each id. Time: sorting all of them.

    >>> found_shares(np.array([[3, 1, -1], [9, 8, 7]]), np.array([[1, 2], [7, 9]]), 2, among=3).tolist()
    [0.5, 1.0]
    """
    among = k if among is None else among
    _check(found, exact, k, among)
    near, seen = exact[:, :k], found[:, :among]
    near_pairs, seen_pairs = _pairs(near, seen)
    wanted = _counted(near, near_pairs).sum(axis=1)
    counted = _counted(seen, seen_pairs)
    right = counted & np.isin(seen_pairs, near_pairs)
    if ties is not None:
        right |= counted & _near_enough(ties, found, exact, k, among)
    # Of equal rows more than k may be near enough.
    hits = np.minimum(right.sum(axis=1), wanted)
    return np.asarray(np.divide(hits, wanted, out=np.full(len(found), np.nan), where=wanted > 0), np.float64)


def by_query(counts: NDArray[np.int64], values: NDArray[Any], width: int, missing: float = NO_ROW) -> NDArray[Any]:
    """Lays values that lie query after query, `(n,)`, into rows of `width`: what is over is cut, what is not there is
    `missing`.

    >>> by_query(np.array([1, 0, 3]), np.array([4, 5, 6, 7]), 2).tolist()
    [[4, -1], [-1, -1], [5, 6]]
    """
    laid = np.full((len(counts), width), missing, values.dtype)
    places = np.repeat(np.arange(len(counts)), counts)
    columns = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    fits = columns < width
    laid[places[fits], columns[fits]] = values[fits]
    return laid


def _check(found: NDArray[np.int64], exact: NDArray[np.int64], k: int, among: int) -> None:
    if len(found) != len(exact):
        raise UsageError(f"{len(found)} queries were asked, and {len(exact)} have exact neighbours: take the same ones")
    for name, ids, least, what in (("found", found, among, "rows"), ("exact", exact, k, "neighbours")):
        if least < 1:
            raise UsageError(f"{least} {what} a query are to be looked at: take 1 or more")
        if ids.shape[1] < least:
            raise UsageError(
                f"'{name}' has {ids.shape[1]} {what} a query, of which {least} are to be looked at: ask for as many,"
                f" and fill up with {NO_ROW} where fewer are there"
            )


def _pairs(near: NDArray[np.int64], seen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number for each pair of query and id, which is the same in both."""
    both = np.concatenate([near, seen], axis=1)
    ids, numbers = np.unique(both, return_inverse=True)
    pairs = numbers.reshape(both.shape) + len(ids) * np.arange(len(both), dtype=np.int64)[:, None]
    return pairs[:, : near.shape[1]], pairs[:, near.shape[1] :]


def _counted(ids: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which ids are of a row, and the first of their query that are of it."""
    firsts = np.zeros(ids.size, np.bool_)
    firsts[np.unique(pairs, return_index=True)[1]] = True
    return np.asarray(firsts.reshape(ids.shape) & (ids != NO_ROW), np.bool_)


def _near_enough(
    ties: Ties, found: NDArray[np.int64], exact: NDArray[np.int64], k: int, among: int
) -> NDArray[np.bool_]:
    """Which of the found rows are no farther than the last exact neighbour that is there."""
    if ties.found.shape != found.shape or ties.exact.shape != exact.shape:
        raise UsageError(
            f"scores of shapes {ties.found.shape} and {ties.exact.shape} do not belong to ids of shapes {found.shape}"
            f" and {exact.shape}: give each id its score"
        )
    sign = 1.0 if ties.metric == "ip" else -1.0
    there = exact[:, :k] != NO_ROW
    last = np.where(there, sign * ties.exact[:, :k].astype(np.float64), np.inf).min(axis=1, keepdims=True)
    near: NDArray[np.bool_] = sign * ties.found[:, :among].astype(np.float64) >= last - ties.tolerance
    return near
