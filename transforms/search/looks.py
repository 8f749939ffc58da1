"""One look for the rows that are nearest to queries: by their codes, by their stored vectors, or at all that may be."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.generations.manifest import Generation
from transforms.index.wanted_lists import WantedLists
from transforms.search import refine
from transforms.search.known_ids import KnownIds
from transforms.search.ranking import NO_ROW, AreAlive, Reach
from transforms.search.refine import StoredVectors
from transforms.search.selection import Selection
from transforms.search.trace import Trace
from transforms.storage.store import Store

_KEPT_LISTS: Final = 8

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Distances, lower is nearer, and ids, `(q, n)` both: nearest first, `NO_ROW` where there is none."""


class Scannable(Protocol):
    """Lists of a generation."""

    @property
    def ntotal(self) -> int:
        """Codes that are scanned, dead ones too."""
        ...

    def scan(
        self, queries: NDArray[np.float32], reach: Reach, allowed: NDArray[np.uint8] | None, among: WantedLists | None
    ) -> Rows:
        """Scans the lists nearest to queries (`index.scan.search_lists`); distances are faiss's, of `ip` products."""
        ...

    def probed(self, queries: NDArray[np.float32], reach: Reach, among: WantedLists | None) -> tuple[int, int]:
        """Returns how many lists that scans, and codes in them, of all queries together."""
        ...

    def wanted(self, allowed: NDArray[np.uint8]) -> WantedLists:
        """Returns the lists that hold rows that are allowed; all are looked through."""
        ...


LookOfMany = Callable[[NDArray[np.float32], Reach, Selection | None, Trace], Rows]


@dataclass(frozen=True)
class FirstScan:
    """What was found when lists were scanned first: of queries float32 `(q, d)`, so far, these rows.

    Of equal ones at the end those with the lowest ids, whether `reach` asks for that or not.
    """

    reach: Reach
    queries: NDArray[np.float32]
    distances: NDArray[np.float32]
    ids: NDArray[np.int64]


def exact_scan(
    index: Scannable,
    queries: NDArray[np.float32],
    reach: Reach,
    allowed: NDArray[np.uint8] | None,
    among: WantedLists | None,
) -> Rows:
    """Scans lists; of equal rows at the end those with the lowest ids are found. Distances are faiss's.

    Cost: another scan, by id, of queries at whose end rows are equal.
    """
    distances, ids = index.scan(queries, replace(reach, rows=reach.rows + 1), allowed, among)
    # One row more than is asked for tells which cuts lie among equal rows.
    last, beyond = reach.rows - 1, reach.rows
    cut = np.flatnonzero((ids[:, beyond] != NO_ROW) & (distances[:, beyond] == distances[:, last]))
    distances, ids = distances[:, : reach.rows].copy(), ids[:, : reach.rows].copy()
    if len(cut):
        by_id = replace(reach, by_id=True)
        distances[cut], ids[cut] = index.scan(np.ascontiguousarray(queries[cut]), by_id, allowed, among)
    return distances, ids


@dataclass(eq=False)
class Looks:
    """The ways to look at a generation. Threads may share it.

    Attributes:
        store, generation: whose.
        index: what is scanned.
        stored: vectors of rows.
        known: which ids there are.
        are_alive: which rows count.
    """

    store: Store
    generation: Generation
    index: Scannable
    stored: StoredVectors
    known: KnownIds
    are_alive: AreAlive

    def __post_init__(self) -> None:
        """Knows the lists of no selection yet."""
        self._wanted: dict[Selection, WantedLists] = {}
        self._lock = threading.Lock()

    def by_codes(self, queries: NDArray[np.float32], reach: Reach, selected: Selection | None, trace: Trace) -> Rows:
        """Scans lists."""
        allowed, among = (None, None) if selected is None else (selected.bits, self.lists_of(selected))
        trace.looks += 1
        with trace.step("scan"):
            scores, ids = self.index.scan(queries, reach, allowed, among)
        if trace.is_full:
            lists, codes = self.index.probed(queries, reach, among)
            trace.lists, trace.codes = trace.lists + lists, trace.codes + codes
        if (why := self.known.strange(ids, scores)) is not None:
            raise PixdexError(
                f"{self.store.full(self.generation.index.path)} or a delta is damaged, {why}: pixdex verify, or search "
                "--check, says where; pixdex reindex --retrain always makes them anew from the stored embeddings"
            )
        return (-scores if self.generation.trained.metric == "ip" else scores), ids

    def refined(self, queries: NDArray[np.float32], reach: Reach, selected: Selection | None, trace: Trace) -> Rows:
        """Scans lists, and ranks what lives of the rows that it finds by stored vectors."""
        distances, ids = self.by_codes(queries, reach, selected, trace)
        alive = (ids != NO_ROW) & self.are_alive(ids)
        distances, ids, is_exact = self._rescored(queries, ids, distances, alive, trace)
        if not np.isfinite(distances[is_exact]).all():
            raise PixdexError(
                f"{self.store.url}: stored vectors are damaged, their scores are not finite: pixdex verify says which "
                "file; search with --shortlist 0 meanwhile"
            )
        return distances, ids

    def at_all(self, queries: NDArray[np.float32], _: Reach, selected: Selection | None, trace: Trace) -> Rows:
        """Compares all rows of a small selection with the queries, by their vectors."""
        assert selected is not None
        trace.looks += 1
        ids = np.broadcast_to(selected.ids(), (len(queries), selected.count))
        everything = np.ones(ids.shape, np.bool_)
        distances, ids, _exact = self._rescored(queries, ids, np.zeros(ids.shape, np.float32), everything, trace)
        # Rejected rows of ready embeddings have ids, too, and what no index takes for a vector.
        return distances, np.where(np.isfinite(distances), ids, NO_ROW)

    def lists_of(self, selection: Selection) -> WantedLists:
        """Returns the lists that hold rows of a selection; the first time all lists are looked through."""
        with self._lock:  # whoever comes first looks through all lists, the others wait
            if selection not in self._wanted:
                self._wanted[selection] = self.index.wanted(selection.bits)
                if len(self._wanted) > _KEPT_LISTS:
                    del self._wanted[next(iter(self._wanted))]
            return self._wanted[selection]

    def _rescored(
        self,
        queries: NDArray[np.float32],
        ids: NDArray[np.int64],
        distances: NDArray[np.float32],
        wanted: NDArray[np.bool_],
        trace: Trace,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        metric, count = self.generation.trained.metric, int(wanted.sum())
        with trace.step("vectors"):
            rescored = refine.rescored(self.stored, metric, queries, ids, distances, wanted)
        if int(rescored[2].sum()) < count:
            raise PixdexError(f"{self.store.url}: some rows have no stored vectors: see what pixdex verify says")
        trace.vectors += count
        return rescored
