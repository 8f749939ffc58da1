"""Slices of a merged index on an object store: ranges of its lists, so that no machine need hold all of it.

A slice is an index as the whole is, with the same centroids and codebooks, whose other lists are empty: what several of
them find is, taken together, what the whole finds. `Slice` is one of them, `Joined` is what all of them found; both
stand where a searcher has the index.
"""

import contextlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.generations.manifest import Generation
from transforms.index.lists.inputs import MergeInputs
from transforms.index.lists.merge import plan_pieces
from transforms.index.scan import nearest
from transforms.index.wanted_lists import WantedLists
from transforms.search.deltas import open_deltas
from transforms.search.local_copies import aside, segments_of, write_copy
from transforms.search.looks import FirstScan, Rows
from transforms.search.open_index import OpenIndex, check_shape, open_index, open_spread, read
from transforms.search.ranking import Reach
from transforms.storage.cache_folder import cache_folder
from transforms.storage.store import Store

_FOLDER: Final = "slices"
"""Where slices are copied to, in the cache."""


@dataclass(frozen=True)
class Slice(OpenIndex):
    """Some lists of a generation, the others empty.

    Attributes:
        among: the lists of the generation with rows that may be results, as all slices counted them; None: all may.
    """

    among: WantedLists | None = None

    def wanted(self, allowed: NDArray[np.uint8]) -> WantedLists:
        """Returns what was counted of all slices: what is here says nothing of the others."""
        assert self.among is not None
        return self.among


class Whole:
    """All lists of a generation, copied to this machine and opened when they are needed."""

    def __init__(self, store: Store, generation: Generation) -> None:
        """Opens nothing yet."""
        self._store, self._generation = store, generation

    @cached_property
    def _index(self) -> OpenIndex:
        return open_index(self._store, self._generation)

    @property
    def has_similarities(self) -> bool:
        """Whether the largest distances are the nearest."""
        return self._generation.trained.metric == "ip"

    @property
    def ntotal(self) -> int:
        """Codes, dead ones too."""
        return self._generation.totals.vectors + self._generation.totals.tombstones

    def scan(
        self, queries: NDArray[np.float32], reach: Reach, allowed: NDArray[np.uint8] | None, among: WantedLists | None
    ) -> Rows:
        """Scans the lists nearest to queries."""
        return self._index.scan(queries, reach, allowed, among)

    def probed(self, queries: NDArray[np.float32], reach: Reach, among: WantedLists | None) -> tuple[int, int]:
        """Returns how many lists that scans, and codes in them, of all queries together."""
        return self._index.probed(queries, reach, among)

    def wanted(self, allowed: NDArray[np.uint8]) -> WantedLists:
        """Returns the lists that hold rows that are allowed."""
        return self._index.wanted(allowed)


class Joined:
    """What each slice found for some queries when it was scanned first; what goes further scans the whole."""

    def __init__(self, whole: Whole, among: WantedLists | None) -> None:
        """Knows of no scan yet; `among` is as of a slice."""
        self._whole, self._among = whole, among
        self._first: FirstScan | None = None
        self._places: dict[bytes, int] = {}

    def add(self, scan: FirstScan) -> None:
        """Takes what one more slice found of the same queries, when it looked as far as the others.

        Raises:
            ValueError: it looked otherwise.
        """
        found = [(scan.distances, scan.ids)]
        if self._first is None:
            self._places = {query.tobytes(): place for place, query in enumerate(scan.queries)}
        elif scan.reach != self._first.reach or len(scan.ids) != len(self._first.ids):
            raise ValueError(
                f"{len(scan.ids)} queries at {scan.reach}, others {len(self._first.ids)} at {self._first.reach}"
            )
        else:
            found.append((self._first.distances, self._first.ids))
        # In order of distance and id, also of a single slice: fewer rows than were found may be asked for.
        distances, ids = nearest(found, scan.reach.rows, similar=self._whole.has_similarities)
        self._first = replace(scan, distances=distances, ids=ids)

    @property
    def ntotal(self) -> int:
        """Codes of the generation, dead ones too."""
        return self._whole.ntotal

    def scan(
        self, queries: NDArray[np.float32], reach: Reach, allowed: NDArray[np.uint8] | None, among: WantedLists | None
    ) -> Rows:
        """Returns what the slices found, where they looked so far, or scans the whole."""
        first = self._first
        how_far = (reach.nprobe, reach.stop)
        if first is not None and reach.rows <= first.reach.rows and how_far == (first.reach.nprobe, first.reach.stop):
            places = [self._places.get(query.tobytes(), -1) for query in queries]
            if min(places, default=0) >= 0:
                return first.distances[places, : reach.rows], first.ids[places, : reach.rows]
        return self._whole.scan(queries, reach, allowed, among)

    def probed(self, queries: NDArray[np.float32], reach: Reach, among: WantedLists | None) -> tuple[int, int]:
        """Returns what is said of the whole."""
        return self._whole.probed(queries, reach, among)

    def wanted(self, allowed: NDArray[np.uint8]) -> WantedLists:
        """Returns what was counted of all slices."""
        return self._whole.wanted(allowed) if self._among is None else self._among


def can_be_sliced(generation: Generation, most_bytes: int) -> bool:
    """Tells whether the merged index is larger than that, and of files that may be copied in parts."""
    return generation.is_segmented and generation.index.bytes > most_bytes


def slices_of(store: Store, generation: Generation, most_bytes: int) -> list[range]:
    """Cuts the lists into ranges of about so many bytes, or of one list.

    Cost: the footer of each segment is read.
    """
    with contextlib.closing(MergeInputs(store, segments_of(store, generation))) as inputs:
        return plan_pieces(inputs.over(range(generation.trained.nlist)), most_bytes)


def open_slice(store: Store, generation: Generation, lists: range) -> OpenIndex:
    """Copies some lists to this machine and opens them; that of the first list has the deltas, too.

    The copy has no name once it is open, and is gone with the index, or with the process. It takes the disk of
    `cache_folder()`, and two steps of a merge in memory while it is made; every byte is checked.

    Raises:
        PixdexError: the cache folder cannot be written, or a segment is missing or damaged.
    """
    what = f"lists {lists.start} to {lists.stop - 1} of the index (take smaller slices, --slice-bytes, or another disk)"
    with aside(cache_folder() / _FOLDER, what) as folder:
        file = folder / "index.faiss"
        write_copy(store, generation, file, lists)
        merged = read(file, mapped=True)
    check_shape(store.full(generation.index.path), merged, generation)
    deltas = open_deltas(store, generation, merged) if lists.start == 0 else None
    return OpenIndex(merged, deltas, open_spread(store, generation, merged))
