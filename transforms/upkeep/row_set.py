"""A set of rows of shards, as bits: what is expected is crossed off when it is met."""

from collections.abc import Mapping
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from transforms.records import ROWS_PER_SHARD, split_ids

BYTES_PER_SHARD = ROWS_PER_SHARD // 8


class RowSet:
    """Rows that are still expected: 8 KiB a shard, whatever their number. Threads may share it."""

    def __init__(self, rows: Mapping[int, NDArray[np.uint8]]) -> None:
        """Begins with rows by their shard: uint8 of at most 8,192 bytes, a bit a row, the lowest first."""
        self._shards = np.array(sorted(rows), np.int64)
        self._bits = np.zeros((len(rows), BYTES_PER_SHARD), np.uint8)
        for place, shard in enumerate(self._shards.tolist()):
            self._bits[place, : len(rows[shard])] = rows[shard]
        self._lock = Lock()

    def take(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Crosses rows off. Returns those that were not expected, ascending: twice here, not any more, or not at all.

        Cost: about 0.1 microseconds a row.
        """
        ordered = np.sort(ids)
        if not len(self._shards) or not len(ids):
            return ordered
        fresh = np.ones(len(ordered), np.bool_)
        fresh[1:] = ordered[1:] != ordered[:-1]
        numbers, rows = split_ids(ordered)
        places = np.minimum(np.searchsorted(self._shards, numbers), len(self._shards) - 1)
        fresh &= self._shards[places] == numbers
        masks = np.left_shift(1, rows & 7).astype(np.uint8)
        flat, where = self._bits.reshape(-1), places * BYTES_PER_SHARD + (rows >> 3)
        with self._lock:
            fresh &= (flat[where] & masks) != 0
            np.bitwise_and.at(flat, where[fresh], ~masks[fresh])
        return ordered[~fresh]

    @property
    def rows(self) -> int:
        """How many rows are still expected."""
        return int(np.bitwise_count(self._bits).sum(dtype=np.int64))

    @property
    def example(self) -> int:
        """The lowest id that is still expected; there must be one."""
        place = int(np.flatnonzero(self._bits.any(axis=1))[0])
        row = int(np.flatnonzero(np.unpackbits(self._bits[place], bitorder="little"))[0])
        return int(self._shards[place]) * ROWS_PER_SHARD + row


def first_rows(count: int) -> NDArray[np.uint8]:
    """Returns the bits of the first rows of a shard.

    >>> first_rows(10).tolist()
    [255, 3]
    """
    return np.packbits(np.ones(count, np.bool_), bitorder="little")
