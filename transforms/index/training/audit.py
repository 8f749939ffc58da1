"""Chooses how many cells two-level assignment looks into, by comparing it with flat on rows held out of training."""

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import TwoLevelAssigner
from transforms.index.trained import AssignmentAudit
from transforms.index.training.clustering import nearest
from transforms.index.training.figures import AUDIT_QUERIES

AGREEMENT = 0.99
RECALL_COST = 0.003
"""What the chosen number of cells must keep: the share of rows in the same list, and the recall that may be lost."""

NEIGHBOURS = 10

_PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


def audit(assigner: TwoLevelAssigner, rows: NDArray[np.float32], nprobe: int) -> AssignmentAudit:
    """Returns the fewest cells whose assignment agrees with flat on 99 % of the rows and costs ≤ 0.3 point of recall.

    Args:
        assigner: the trained lists, under their last parents.
        rows: float32 `(n, d)`, behind the transforms, not trained on. The first 512 are queries as well: recall is
            the share of the ten rows nearest to each, itself apart, in the lists that a search of `nprobe` lists
            scans; two-level assignment is read off at as many rows scanned as flat.
        nprobe: lists that a search probes by default.

    When none is enough, all cells are taken: that is flat assignment. Cost: n·K distances.
    """
    flat = nearest(rows, assigner.centroids, spherical=assigner.spherical)
    ranks = _Ranks(assigner, rows, nprobe)
    recall_flat, scanned = ranks.recall(flat, nprobe)
    cells = len(assigner.parents)
    for probes in [*(number for number in _PROBES if number < cells), cells]:
        lists = assigner.assign(rows, probes)
        agreement = float((lists == flat).mean())
        recall = ranks.recall_at(lists, scanned)
        if (agreement >= AGREEMENT and recall >= recall_flat - RECALL_COST) or probes == cells:
            break
    return AssignmentAudit(probes, round(agreement, 6), round(recall_flat, 6), round(recall, 6))


class _Ranks:
    """For some queries: which rank each list has, up to twice `nprobe`, and which rows are their true neighbours."""

    def __init__(self, assigner: TwoLevelAssigner, rows: NDArray[np.float32], nprobe: int) -> None:
        queries = rows[:AUDIT_QUERIES]
        self._depth = min(2 * nprobe, len(assigner.centroids))
        self._lists = len(assigner.centroids)
        self._order = _best(queries, assigner.centroids, self._depth, spherical=assigner.spherical)
        near = _best(queries, rows, min(NEIGHBOURS + 1, len(rows)), spherical=assigner.spherical)
        self._near = [row[row != query][:NEIGHBOURS] for query, row in enumerate(near)]

    def _curves(self, lists: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean rows scanned, and share of the neighbours found, for 0 … depth lists probed."""
        scanned, seen = np.zeros(self._depth + 1), np.zeros(self._depth + 1)
        rank = np.full(self._lists, self._depth)
        for order, near in zip(self._order, self._near, strict=True):
            rank[order] = np.arange(self._depth)
            scanned += np.bincount(rank[lists], minlength=self._depth + 1)
            seen += np.bincount(rank[lists[near]], minlength=self._depth + 1)
            rank[order] = self._depth
        neighbours = max(seen.sum(), 1)
        curves = (np.append(0, np.cumsum(curve[:-1])) for curve in (scanned / len(self._order), seen / neighbours))
        return next(curves), next(curves)

    def recall(self, lists: NDArray[np.int64], nprobe: int) -> tuple[float, float]:
        """Recall when `nprobe` lists are probed, and the mean number of rows that this scans."""
        scanned, recalled = self._curves(lists)
        return float(recalled[nprobe]), float(scanned[nprobe])

    def recall_at(self, lists: NDArray[np.int64], rows_scanned: float) -> float:
        """Recall when so many rows are scanned, between two numbers of lists in proportion."""
        scanned, recalled = self._curves(lists)
        return float(np.interp(rows_scanned, scanned, recalled))


def _best(queries: NDArray[np.float32], rows: NDArray[np.float32], count: int, *, spherical: bool) -> NDArray[np.int64]:
    """The `count` best rows of every query, best first: int64 `(queries, count)`."""
    index = faiss.IndexFlatIP(rows.shape[1]) if spherical else faiss.IndexFlatL2(rows.shape[1])
    index.add(np.ascontiguousarray(rows))
    nearest_rows: NDArray[np.int64] = index.search(np.ascontiguousarray(queries), count)[1]
    return nearest_rows
