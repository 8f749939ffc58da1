"""What a row is, beside its vector: key, URI, modality, part, caption, and the columns of its source."""

import itertools
import unicodedata
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.errors import PixdexError, UsageError
from transforms.nearest import no_column
from transforms.ready_range import VectorRange
from transforms.records import MODALITIES, ROW_BITS, ROWS_PER_SHARD, split_ids
from transforms.search.ranking import AreAlive
from transforms.search.row_groups import Kept, RowGroups
from transforms.shards import files
from transforms.storage import parquet_files
from transforms.storage.arrow_numbers import array_of
from transforms.storage.store import Store

READERS: Final = 8
"""Shards whose metadata is read at once."""

_BESIDE: Final = 8
"""Rows on each side of a picture that are looked at for captions of it."""

KEY_OF: Final = "key of"
"""Marks the group of a row that is in none."""

_OTHER_IDS: Final = "its ids are not those of its rows"

_OWN: Final = frozenset({"id", *files.CORE_COLUMNS})


class RowMetadata:
    """What is known of rows, read once a search."""

    def __init__(
        self,
        store: Store,
        table: dict[int, dict[str, Any]],
        ranges: dict[int, VectorRange],
        pool: ThreadPoolExecutor,
        kept: Kept,
        *,
        check: bool = False,
    ) -> None:
        """Knows none yet.

        Args:
            store: the root.
            table: the generation's table of shards, by their numbers.
            ranges: the ready embeddings that some of these stand for.
            pool: threads that read.
            kept: row groups that searches read before.
            check: own shards are held against their checksums first.
        """
        self._store, self._pool, self._kept = store, pool, kept
        self._groups = RowGroups(store, table, kept, check=check)
        self._shards, self._ranges = table, ranges
        self._rows: dict[int, dict[str, Any]] = {}
        self._columns: dict[int, list[str]] = {}

    def load(self, ids: NDArray[np.int64]) -> None:
        """Reads the rows that are not known yet, several shards at once."""
        wanted = np.setdiff1d(ids, np.fromiter(self._rows, np.int64, len(self._rows)))
        numbers, rows = split_ids(wanted)
        by_shard = [(int(number), rows[numbers == number]) for number in np.unique(numbers)]
        far: list[tuple[int, NDArray[np.int64]]] = []
        for task in by_shard:
            if self._reads_a_file(*task):
                far.append(task)
            else:  # not worth a thread
                self._know(self._read(*task))
        for rows_of_shard in self._pool.map(lambda task: self._read(*task), far) if far else ():
            self._know(rows_of_shard)

    def _know(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows.update((row["id"], row) for row in rows)

    def keys(self, ids: NDArray[np.int64]) -> Sequence[str]:
        """Returns the key of each of these rows."""
        self.load(ids)
        return [self._rows[row]["key"] for row in ids.tolist()]

    def shown(self, ids: NDArray[np.int64]) -> Sequence[str]:
        """Returns what each of these rows shows: its picture, or where it is of none its key."""
        self.load(ids)
        return [shown(row["key"], row["uri"]) for row in map(self._rows.__getitem__, ids.tolist())]

    def captions(self, row: int, are_alive: AreAlive) -> tuple[str, ...]:
        """Returns the captions of a picture, of which a row must be loaded; none where only one row has that picture.

        They are those of the rows that stand beside it, at most eight on each side and none that is dead or hidden:
        rows that name one picture mostly follow one another.
        """
        known = self._rows[row]
        if known["modality"] != "image" or is_of_no_picture(known["key"], known["uri"]):
            return ()
        first = row >> ROW_BITS << ROW_BITS
        stop = first + self._shards[row >> ROW_BITS]["rows"]
        near = np.arange(max(first, row - _BESIDE), min(stop, row + _BESIDE + 1))
        near = near[are_alive(near) | (near == row)]
        self.load(near)
        before, after = near[near < row][::-1].tolist(), near[near > row].tolist()
        same = [one for side in (before, after) for one in itertools.takewhile(partial(self._is_same, row), side)]
        said = dict.fromkeys(self._rows[one]["caption"] for one in sorted([row, *same])) if same else {}
        return tuple(caption for caption in said if caption)

    def _is_same(self, row: int, other: int) -> bool:
        return all(self._rows[row][name] == self._rows[other][name] for name in ("modality", "uri"))

    def groups(self, column: str, ids: NDArray[np.int64]) -> Sequence[Hashable]:
        """Returns what each of these rows has in a column, of pixdex's or of the source; where nothing, its key."""
        self.load(ids)
        rows = [self._rows[row] for row in ids.tolist()]
        return [(KEY_OF, row["key"]) if row.get(column) in (None, "") else str(row[column]) for row in rows]

    def check_column(self, column: str) -> None:
        """Checks that a row that was looked at has a column, or else the first row of any shard.

        Raises:
            UsageError: none has; names the nearest column, and those that there are.
        """
        if any(column in row for row in self._rows.values()):
            return
        first, names = np.zeros(1, np.int64), dict[str, None]()
        for number in self._shards:
            names |= dict.fromkeys(self._read(number, first)[0])
            if column in names:
                return
        raise UsageError(f"{self._store.url} {no_column(column, [*names])}")

    def row(self, row: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns what is known of a row, which must be loaded, and the source's own columns of it."""
        known, names = self._rows[row], self._columns[row >> ROW_BITS]
        return known, {name: known[name] for name in names} if names else {}

    def is_ready(self, row: int) -> bool:
        """Tells whether a row is one of ready embeddings, whose content is their vector."""
        return row >> ROW_BITS in self._ranges

    def table(self, ids: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Returns columns of some rows, in their order; null where a row has no such column, or nothing in it.

        A column that has several types has text.

        Cost: as of `load`, but for that no row becomes an object of Python's, where shards are pixdex's own.

        Raises:
            UsageError: no row has one of the columns.
            PixdexError: a shard is missing or damaged.
        """
        rows, places = np.unique(ids, return_inverse=True)
        numbers, within = split_ids(rows)
        tasks = [(int(number), within[numbers == number]) for number in np.unique(numbers)]
        parts = list(self._pool.map(lambda task: self._part(task[0], task[1], tuple(columns)), tasks))
        for name in columns:
            if parts and all(name not in part.column_names for part in parts):
                self.check_column(name)
        return joined(parts, columns).take(array_of(places))

    def _part(self, number: int, rows: NDArray[np.int64], columns: tuple[str, ...]) -> pa.Table:
        shard, ready = self._shard(number, rows)
        if ready is not None:
            if columns == ("key",):
                from transforms.search import ready_metadata  # noqa: PLC0415 - imports all of pyarrow's functions

                return pa.table({"key": ready_metadata.keys_of(ready, rows)})
            known = self._read(number, rows)
            names = [name for name in columns if name in known[0]]
            return pa.table({name: pa.array([row[name] for row in known]) for name in names})
        table = self._groups.rows(number, rows, ("id", *columns))
        with parquet_files.making_sense_of(self._store, shard["path"]):
            if table["id"].to_pylist() != ((number << ROW_BITS) + rows).tolist():
                raise ValueError(_OTHER_IDS)
        return table.drop_columns("id")

    def _reads_a_file(self, number: int, rows: NDArray[np.int64]) -> bool:
        if (ready := self._ranges.get(number)) is not None:
            from transforms.search import ready_metadata  # noqa: PLC0415 - imports all of pyarrow's functions

            return ready_metadata.reads_a_file(ready, self._kept)
        return number not in self._shards or not self._groups.has(number, rows)

    def _read(self, number: int, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        shard, ready = self._shard(number, rows)
        if ready is not None:
            from transforms.search import ready_metadata  # noqa: PLC0415 - imports all of pyarrow's functions

            metadata = ready_metadata.read_metadata(number, ready, rows, self._kept)
        else:
            table = self._groups.rows(number, rows)
            with parquet_files.making_sense_of(self._store, shard["path"]):
                metadata = table.to_pylist()
                _check_rows(metadata, number, rows)
        self._columns[number] = [name for name in metadata[0] if name not in _OWN]
        return metadata

    def _shard(self, number: int, rows: NDArray[np.int64]) -> tuple[dict[str, Any], VectorRange | None]:
        """A row of the table of shards, which must have some rows, and the ready embeddings that it stands for."""
        shard, ready = self._shards.get(number), self._ranges.get(number)
        # Rejected rows of ready embeddings keep their place: ids count them too.
        if shard is None or rows.max() >= (shard["rows"] if ready is None else ready.rows):
            raise PixdexError(
                f"{self._store.url}: the index names row {rows.max()} of shard {number}, which the generation does not "
                "hold: restore the index from a backup, or build into a new root"
            )
        return shard, ready


def is_of_no_picture(key: str, uri: str) -> bool:
    """Tells whether the URI of a row is that of a file of which it is but a row, so that its key has more to say."""
    return key.startswith((f"{uri}#", unicodedata.normalize("NFC", f"{uri}#")))


def shown(key: str, uri: str) -> str:
    """Returns what a row shows: its picture, or where it is of none its key."""
    return key if is_of_no_picture(key, uri) else uri


def joined(parts: Sequence[pa.Table], columns: Sequence[str]) -> pa.Table:
    """Returns columns of tables, one after the other; what one lacks is null, and types that differ become text."""
    made = {}
    for name in columns:
        some = [part[name] if name in part.column_names else pa.nulls(len(part)) for part in parts]
        kinds = {column.type for column in some if not pa.types.is_null(column.type)}
        kind = kinds.pop() if len(kinds) == 1 else pa.string() if kinds else pa.null()
        chunks = [chunk for column in some for chunk in _chunks_of(column, kind)]
        made[name] = pa.chunked_array(chunks, kind)
    return pa.table(made)


def _chunks_of(column: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> list[pa.Array]:
    if column.type == kind:
        return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]
    if pa.types.is_null(column.type):
        return [pa.nulls(len(column), kind)]
    return [pa.array([None if value is None else str(value) for value in column.to_pylist()], kind)]


def _check_rows(metadata: Sequence[dict[str, Any]], shard: int, rows: NDArray[np.int64]) -> None:
    """Checks that rows are those that were asked for, and have what every row has: no checksum covers a footer.

    Raises:
        ValueError: they are not.
    """
    wanted = ((shard << ROW_BITS) + rows).tolist()
    if [row.get("id") for row in metadata] != wanted:
        raise ValueError(_OTHER_IDS)
    for row in metadata:
        named = isinstance(row.get("key"), str) and isinstance(row.get("uri"), str)
        placed = row.get("modality") in MODALITIES and isinstance(row.get("part"), int)
        if not (named and placed and isinstance(row.get("caption"), str | None)):
            raise ValueError(f"row {row['id'] & (ROWS_PER_SHARD - 1)} has no key, URI, modality or part")
