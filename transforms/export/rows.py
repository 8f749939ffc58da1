"""Reads the rows with some numbers, a few thousand at a time: their ids, what they are, and their vectors."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.export.columns import Columns
from transforms.export.numbering import Numbering
from transforms.export.origin import Origin
from transforms.markers import ShardMarker
from transforms.records import ROW_BITS, ROWS_PER_SHARD
from transforms.search import ready_metadata
from transforms.shards.files import EMBEDDING
from transforms.shards.read_ahead import read_ahead
from transforms.shards.vectors import Choose, read_batches
from transforms.storage import parquet_files
from transforms.storage.arrow_numbers import array_of

_METADATA_ROWS: Final = 8192
"""Rows beside ready embeddings that are Python's objects at once."""


@dataclass(frozen=True)
class Rows:
    """Some rows, in the order of their ids.

    Attributes:
        ids: int64 `(n,)`.
        table: what they are (`Columns.schema`); None: nobody asked.
        vectors: float32 `(n, d)`, as they are indexed; None: nobody asked.
    """

    ids: NDArray[np.int64]
    table: pa.Table | None = None
    vectors: NDArray[np.float32] | None = None


def vectors_between(origin: Origin, numbering: Numbering, start: int, stop: int) -> Generator[Rows, None, None]:
    """Yields the vectors of the rows with numbers `start` to `stop` (exclusive), 4,096 rows or fewer at a time.

    Memory: three batches. A thread reads the next one.

    Raises:
        PixdexError: a shard is missing or damaged, or ready embeddings are not what they were.
    """
    settings = origin.generation.request.encoder
    for number, rows in numbering.rows_between(start, stop):
        found = 0
        for batch in read_batches(origin.store, origin.shards[number], settings, _among(rows)):
            found += len(batch.ids)
            yield Rows(batch.ids, vectors=batch.vectors)
        if found != len(rows):
            raise _lacks(origin, origin.shards[number], len(rows), found)


def metadata_between(
    origin: Origin, numbering: Numbering, start: int, stop: int, columns: Columns
) -> Generator[Rows, None, None]:
    """Yields what the same rows are, some at a time; a thread reads the next ones.

    Memory: three batches. Of ready embeddings, also the row groups beside them, up to 256 MiB.

    Raises:
        PixdexError: as `vectors_between`.
    """
    yield from read_ahead(_metadata(origin, numbering, start, stop, columns))


def _metadata(
    origin: Origin, numbering: Numbering, start: int, stop: int, columns: Columns
) -> Generator[Rows, None, None]:
    for number, rows in numbering.rows_between(start, stop):
        shard = origin.shards[number]
        if shard.ready is None:
            yield from _own(origin, shard, rows, columns, with_vectors=False)
            continue
        for at in range(0, len(rows), _METADATA_ROWS):
            some = rows[at : at + _METADATA_ROWS]
            known = ready_metadata.read_metadata(number, shard.ready, some, origin.kept)
            yield Rows((number << ROW_BITS) + some, columns.written_rows(known))


def all_between(
    origin: Origin, numbering: Numbering, start: int, stop: int, columns: Columns
) -> Generator[Rows, None, None]:
    """Yields both, of the same rows."""
    yield from read_ahead(_all(origin, numbering, start, stop, columns))


def _all(origin: Origin, numbering: Numbering, start: int, stop: int, columns: Columns) -> Generator[Rows, None, None]:
    settings = origin.generation.request.encoder
    for number, rows in numbering.rows_between(start, stop):
        shard = origin.shards[number]
        if shard.ready is None:
            yield from _own(origin, shard, rows, columns, with_vectors=True)
            continue
        found = 0
        for batch in read_batches(origin.store, shard, settings, _among(rows)):
            known = ready_metadata.read_metadata(number, shard.ready, _rows(batch.ids), origin.kept)
            found += len(batch.ids)
            yield Rows(batch.ids, columns.written_rows(known), batch.vectors)
        if found != len(rows):
            raise _lacks(origin, shard, len(rows), found)


def _own(
    origin: Origin, shard: ShardMarker, rows: NDArray[np.int64], columns: Columns, *, with_vectors: bool
) -> Generator[Rows, None, None]:
    """Reads rows of a shard of the root, a row group at a time."""
    assert shard.embeddings is not None
    with parquet_files.opened(origin.store, shard.embeddings) as file:
        wanted = {"id", *columns.read, *([EMBEDDING] if with_vectors else [])}
        names = [name for name in file.schema_arrow.names if name in wanted]
        first = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            mine = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + size)] - first
            if len(mine):
                table = file.read_row_group(group, columns=names).take(array_of(mine))
                ids = table["id"].to_numpy()
                if not np.array_equal(ids, (shard.shard << ROW_BITS) + first + mine):
                    raise ValueError("its ids are not those of its rows")
                vectors = None
                if with_vectors:
                    vectors = table[EMBEDDING].combine_chunks().flatten().to_numpy().reshape(len(mine), -1)
                yield Rows(ids, columns.written(table), vectors)
            first += size


def _among(rows: NDArray[np.int64]) -> Choose:
    """Chooses some rows of a shard."""
    wanted = np.zeros(ROWS_PER_SHARD, np.bool_)
    wanted[rows] = True
    return lambda ids: wanted[_rows(ids)]


def _rows(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return ids & (ROWS_PER_SHARD - 1)


def _lacks(origin: Origin, shard: ShardMarker, wanted: int, found: int) -> PixdexError:
    return PixdexError(
        f"{origin.store.url}: shard {shard.shard} has {found} of the {wanted} rows that the generation names: "
        "pixdex verify says what is damaged"
    )
