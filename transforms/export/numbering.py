"""Dense numbers of rows: 0 to n - 1 in the order of their ids, though some rows between are left out.

From an id to its number is arithmetic, as from an id to its row: how many are numbered in the shards before, and in the
shard before the row. Only of a shard with gaps that is a bit a row.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.records import ROWS_PER_SHARD, split_ids

NO_NUMBER: Final = -1
"""Of a row that is left out."""

_WORDS: Final = ROWS_PER_SHARD // 64


@dataclass(frozen=True, eq=False)
class Numbering:
    """Numbers from `first` on for some rows of some shards.

    Memory: 32 bytes a shard, and 10 KiB for each whose numbered rows are not one run, as a search has of its dead rows.

    Attributes:
        first: the lowest number.
        shards: int64 `(n,)`, ascending; each has at least one numbered row.
        ends: int64 `(n,)`: how many rows are numbered up to the end of a shard.
        starts: int64 `(n,)`: first numbered row of a shard.
        places: int64 `(n,)`: which of `bits` is the shard's; -1: its rows are one run from `starts` on.
        bits: uint64 `(m, 1024)`: a bit a row, the lowest first.
        below: uint16 `(m, 1024)`: how many bits are set in the words before.
    """

    first: int
    shards: NDArray[np.int64]
    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    places: NDArray[np.int64]
    bits: NDArray[np.uint64]
    below: NDArray[np.uint16]

    @property
    def count(self) -> int:
        """How many rows have a number."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def stop(self) -> int:
        """The number behind the last."""
        return self.first + self.count

    def numbers(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers of some ids, int64 `(n,)`; `NO_NUMBER` of rows that are left out."""
        numbers = np.full(len(ids), NO_NUMBER, np.int64)
        if not len(self.shards) or not len(ids):
            return numbers
        owners, rows = split_ids(ids)
        shards = np.minimum(np.searchsorted(self.shards, owners), len(self.shards) - 1)
        is_here = self.shards[shards] == owners
        before = np.concatenate(([0], self.ends[:-1]))
        within = rows - self.starts[shards]
        sizes = self.ends - before
        is_run = is_here & (self.places[shards] < 0) & (within >= 0) & (within < sizes[shards])
        numbers[is_run] = self.first + before[shards[is_run]] + within[is_run]
        some = np.flatnonzero(is_here & (self.places[shards] >= 0))
        place, word = self.places[shards[some]], rows[some] >> 6
        bits, bit = self.bits[place, word], (rows[some] & 63).astype(np.uint64)
        lower = bits & ((np.uint64(1) << bit) - np.uint64(1))
        ranks = self.below[place, word].astype(np.int64) + np.bitwise_count(lower)
        is_set = (bits >> bit) & np.uint64(1) != 0
        numbers[some[is_set]] = self.first + before[shards[some[is_set]]] + ranks[is_set]
        return numbers

    def rows_between(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yields, of the rows with numbers `start` to `stop` (exclusive), shard by shard the rows, int64 ascending."""
        low, high = max(start, self.first) - self.first, min(stop, self.stop) - self.first
        if low >= high:
            return
        begin = int(np.searchsorted(self.ends, low, side="right"))
        end = int(np.searchsorted(self.ends, high, side="left")) + 1
        for place in range(begin, end):
            before = int(self.ends[place - 1]) if place else 0
            rows = self._rows(place)
            yield int(self.shards[place]), rows[max(0, low - before) : high - before]

    def _rows(self, place: int) -> NDArray[np.int64]:
        if (bits := int(self.places[place])) >= 0:
            return np.flatnonzero(np.unpackbits(self.bits[bits].view(np.uint8), bitorder="little")).astype(np.int64)
        before = int(self.ends[place - 1]) if place else 0
        return int(self.starts[place]) + np.arange(int(self.ends[place]) - before, dtype=np.int64)


class NumberingBuilder:
    """Makes a numbering, shard by shard."""

    def __init__(self) -> None:
        """Numbers nothing yet."""
        self._shards: list[tuple[int, int, int, int]] = []
        self._bits: list[NDArray[np.uint64]] = []

    def add(self, shard: int, wanted: NDArray[np.bool_]) -> None:
        """Numbers rows of a shard, bool `(rows,)`; shards come in ascending order."""
        rows = np.flatnonzero(wanted)
        if not len(rows):
            return
        first, is_run = int(rows[0]), int(rows[-1]) - int(rows[0]) + 1 == len(rows)
        self._shards.append((shard, len(rows), first, -1 if is_run else len(self._bits)))
        if not is_run:
            whole = np.zeros(ROWS_PER_SHARD, np.bool_)
            whole[: len(wanted)] = wanted
            self._bits.append(np.packbits(whole, bitorder="little").view("<u8").astype(np.uint64))

    def made(self, first: int = 0) -> Numbering:
        """Returns the numbering, from a number on."""
        shards, counts, starts, places = np.array(self._shards, np.int64).reshape(-1, 4).T
        bits = np.array(self._bits, np.uint64).reshape(-1, _WORDS)
        set_bits = np.bitwise_count(bits).astype(np.int64)
        below = (np.cumsum(set_bits, axis=1) - set_bits).astype(np.uint16)
        return Numbering(first, shards.copy(), np.cumsum(counts), starts.copy(), places.copy(), bits, below)


def ranges(first: int, stop: int, size: int) -> list[tuple[int, int]]:
    """Cuts numbers into ranges of a size, of which the last may be smaller.

    >>> ranges(0, 5, 2), ranges(3, 3, 2)
    ([(0, 2), (2, 4), (4, 5)], [])
    """
    return list(itertools.pairwise([*range(first, stop, size), stop])) if first < stop else []
