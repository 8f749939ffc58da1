"""Tombstones: which rows of a shard are dead, because their item is gone or came anew. A bitmap a shard.

A dead row stays in its shard, whose ids count it, and in the lists until a merge drops it; a search drops it after the
scan, for selectors would cost a quarter of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.records import ROWS_PER_SHARD, FileReference, split_ids
from transforms.storage import arrow_numbers, parquet_files
from transforms.storage.store import Store

_BYTES = ROWS_PER_SHARD // 8

SCHEMA = pa.schema([("shard", pa.int64()), ("rows", pa.int64()), ("bits", pa.binary())])
"""Of a file of tombstones; `bits` has a bit a row, the lowest first, and no zero bytes at its end."""


@dataclass(frozen=True)
class Tombstones:
    """Dead rows: `shards` int64 `(n,)` ascending, and `bits` uint8 `(n, 8192)`; 8 KiB a shard that has any."""

    shards: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    bits: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, _BYTES), np.uint8))

    @classmethod
    def of(cls, ids: NDArray[np.int64]) -> "Tombstones":
        """Makes tombstones of the ids of dead rows."""
        numbers, rows = split_ids(ids)
        shards, places = np.unique(numbers, return_inverse=True)
        bits = np.zeros((len(shards), _BYTES), np.uint8)
        np.bitwise_or.at(bits, (places, rows >> 3), (1 << (rows & 7)).astype(np.uint8))
        return cls(shards, bits)

    @classmethod
    def joined(cls, parts: Iterable["Tombstones"]) -> "Tombstones":
        """Makes one of several: a row is dead that is dead in any of them."""
        some = [part for part in parts if len(part.shards)]
        if not some:
            return cls()
        shards = np.unique(np.concatenate([part.shards for part in some]))
        bits = np.zeros((len(shards), _BYTES), np.uint8)
        for part in some:
            bits[np.searchsorted(shards, part.shards)] |= part.bits
        return cls(shards, bits)

    def are_dead(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tells which of some ids are of dead rows: bool of their shape."""
        if not len(self.shards):
            return np.zeros(ids.shape, np.bool_)
        numbers, rows = split_ids(ids)
        places = np.minimum(np.searchsorted(self.shards, numbers), len(self.shards) - 1)
        bits = (self.bits[places, rows >> 3] >> (rows & 7).astype(np.uint8)) & 1
        dead: NDArray[np.bool_] = (bits != 0) & (self.shards[places] == numbers)
        return dead

    def are_alive(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The opposite."""
        return ~self.are_dead(ids)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows of each of the shards are dead, int64 `(n,)`."""
        dead: NDArray[np.int64] = np.bitwise_count(self.bits).sum(axis=1, dtype=np.int64)
        return dead

    @property
    def count_by_shard(self) -> dict[int, int]:
        """The same, by the number of the shard."""
        return dict(zip(self.shards.tolist(), self.counts.tolist(), strict=True))

    @property
    def rows(self) -> int:
        """How many rows are dead."""
        return int(self.counts.sum())


def write(store: Store, dead: Tombstones) -> FileReference:
    """Writes tombstones as a table; equal ones have one name."""
    columns = [
        pa.array(dead.shards),
        pa.array(dead.counts),
        pa.array([row.tobytes().rstrip(b"\0") for row in dead.bits], pa.binary()),
    ]
    return parquet_files.write_table(store, pa.Table.from_arrays(columns, schema=SCHEMA))


def read(store: Store, file: FileReference) -> Tombstones:
    """Reads tombstones back.

    Raises:
        PixdexError: the file is missing or damaged.
    """
    table = parquet_files.read(store, file)
    with parquet_files.making_sense_of(store, file.path):
        whole = b"".join(bits.ljust(_BYTES, b"\0") for bits in table["bits"].to_pylist())
        shards = arrow_numbers.numbers_of(table["shard"]).astype(np.int64)
        bits = np.frombuffer(whole, np.uint8).reshape(len(shards), _BYTES)
        if (np.diff(shards) <= 0).any():
            raise ValueError("its shards do not ascend")
    return Tombstones(shards, bits)


def read_all(store: Store, table: FileReference | None) -> Tombstones:
    """Reads the tombstones that a generation's table lists; None: there are none."""
    if table is None:
        return Tombstones()
    rows = parquet_files.read_rows(store, table, pa.schema(parquet_files.FILE))
    files = [FileReference(row["path"], row["bytes"], row["checksum"]) for row in rows]
    return Tombstones.joined(read(store, file) for file in files)
