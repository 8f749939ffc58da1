"""Row groups of parquet files without their vectors, kept while there is room: a search reads few rows of each."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.generations import tables
from transforms.shards import files
from transforms.shards.files import ROWS_PER_GROUP
from transforms.storage.arrow_numbers import array_of
from transforms.storage.store import Store

KEPT_BYTES: Final = 128 << 20
"""Of row groups of one searcher, as they are in memory."""

_TAKEN: Final = 64
"""Rows of which each is cut out: `take` of more imports all of pyarrow's functions."""

_Columns = tuple[str, ...] | None


class Kept:
    """What was read last, up to so many bytes. Threads may share it."""

    def __init__(self, most: int) -> None:
        """Holds nothing yet."""
        self._most, self._bytes = most, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        """Tells whether it is kept."""
        return key in self._values

    def get(self, key: Hashable) -> Any:
        """Returns a value, or None: it is not kept."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keeps a value of so many bytes, and lets go of those that were not asked for the longest."""
        with self._lock:
            self._bytes += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            while self._bytes > self._most:
                self._bytes -= self._values.popitem(last=False)[1][1]


def rows_of_groups(
    kept: Kept,
    name: Hashable,
    sizes: NDArray[np.int64],
    rows: NDArray[np.int64],
    read: Callable[[Sequence[int]], Sequence[pa.Table]],
) -> pa.Table:
    """Returns some rows of a file, one at least, in the order asked for; row groups that are kept are not read.

    Args:
        kept: where row groups are kept.
        name: of the file and what is read of it.
        sizes: rows of each row group, int64 `(groups,)`.
        rows: numbers of rows in the file, int64 `(n,)`, of `n` at least 1.
        read: returns the rows of some row groups, each in memory of its own.
    """
    ends = np.cumsum(sizes)
    owners = np.searchsorted(ends, rows, side="right")
    groups, places = np.unique(owners, return_inverse=True)
    there = {group: kept.get((name, group)) for group in groups.tolist()}
    if missing := [group for group, table in there.items() if table is None]:
        for group, table in zip(missing, read(missing), strict=True):
            there[group] = table
            kept.put((name, group), table, table.nbytes)
    joined = pa.concat_tables([there[group] for group in groups.tolist()])
    at = (np.cumsum(sizes[groups]) - sizes[groups])[places] + rows - (ends - sizes)[owners]
    if len(rows) > _TAKEN:
        return joined.take(array_of(at))
    return pa.concat_tables([joined.slice(0, 0), *(joined.slice(row, 1) for row in at.tolist())])


class RowGroups:
    """Reads rows of a root's own shards. Threads may share it."""

    def __init__(
        self, store: Store, shards: Mapping[int, Mapping[str, Any]], kept: Kept, *, check: bool = False
    ) -> None:
        """Knows the rows of the table of shards. With `check`, a shard is held against its checksum first, once."""
        self._store, self._shards, self._kept, self._check = store, shards, kept, check
        self._checked: set[int] = set()

    def has(self, shard: int, rows: NDArray[np.int64], columns: _Columns = None) -> bool:
        """Tells whether no file need be read for some rows."""
        groups = np.unique(rows // ROWS_PER_GROUP).tolist()
        return all((((shard, columns), group)) in self._kept for group in groups)

    def rows(self, shard: int, rows: NDArray[np.int64], columns: _Columns = None) -> pa.Table:
        """Returns some rows of a shard, in the order asked for: all columns but the vectors, or those named, if any.

        `rows` has one at least. Cost: one read for the row groups that are not kept.

        Raises:
            PixdexError: the shard is missing or damaged.
        """
        count = int(self._shards[shard]["rows"])
        sizes = np.full(-(-count // ROWS_PER_GROUP), ROWS_PER_GROUP)
        sizes[-1:] -= len(sizes) * ROWS_PER_GROUP - count
        return rows_of_groups(self._kept, (shard, columns), sizes, rows, partial(self._read, shard, columns))

    def _read(self, shard: int, columns: _Columns, groups: Sequence[int]) -> list[pa.Table]:
        reference = tables.file_of(self._shards[shard])
        if self._check and shard not in self._checked:
            self._store.check(reference)
            self._checked.add(shard)
        return files.read_groups(self._store, reference, groups, columns)
