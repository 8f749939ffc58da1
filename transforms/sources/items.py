"""Item tables: what a plan knows of every item, as Arrow batches.

An item table is a parquet file below `plans/`, one a container (a folder, a CSV file), in the order of its source:

| column | type | what |
|---|---|---|
| `key`, `uri`, `version` | string | see "Words" in `transforms/README.md` |
| `pixdex.image` | string, null | URI of the picture to embed |
| `pixdex.text` | string, null | text to embed whole; the caption of the picture |
| `pixdex.keywords` | list<string>, null | keywords to embed one by one |
| `pixdex.rows` | int32 | rows that the item will fill |
| `pixdex.problem` | string, null | why it cannot be embedded, known before any work: `Type: message` |
| `pixdex.line` | int64, null | the line of the file on which its row begins |
| `pixdex.carried` | struct, null | of a reindex: the rows whose vectors the item keeps (`key_tables.CHOSEN`) |
| `pixdex.inside` | string, null | of a picture in parquet (`FILE#ROW`) its column, in a tar `tar:` and a hash of it |
| `pixdex.caption` | string, null | caption of a picture whose item has no text to embed |
| any other | string | the source's own columns, unchanged |
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.records import ItemSlice
from transforms.shards import files
from transforms.storage import parquet_files
from transforms.storage.store import Store

IMAGE, TEXT, KEYWORDS, ROWS, PROBLEM, LINE, INSIDE = (
    f"pixdex.{name}" for name in ("image", "text", "keywords", "rows", "problem", "line", "inside")
)

CARRIED = "pixdex.carried"
"""Only in tables of what a reindex embeds."""

CAPTION = "pixdex.caption"
"""Only in tables of tars."""

CORE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("uri", pa.string()),
        ("version", pa.string()),
        (IMAGE, pa.string()),
        (TEXT, pa.string()),
        (KEYWORDS, pa.list_(pa.string())),
        (ROWS, pa.int32()),
        (PROBLEM, pa.string()),
        (LINE, pa.int64()),
        (INSIDE, pa.string()),
    ]
)

SHARD_COLUMNS = ("id", *files.CORE_COLUMNS, files.EMBEDDING)
"""Names that a shard's parquet keeps for itself; a source's column of such a name gets a prefix."""

ITEMS_PER_GROUP = 8192
"""Rows of a parquet row group of an item table: what a partition reads at least."""

ITEMS_AT_ONCE = 32 * ITEMS_PER_GROUP
"""Items whose keys `scan` holds in memory: about 50 MB."""

KEYWORDS_PER_ITEM = 4096
"""An item with more keywords is rejected, so that a few items always fit one shard."""


def column_names(names: Sequence[str]) -> list[str]:
    """Returns the names under which a source's columns are stored: unique, and none that a shard keeps for itself.

    >>> column_names(["name", "key", "name", ""])
    ['name', 'source_key', 'name_2', 'column_4']
    """
    reserved = {*SHARD_COLUMNS, *CORE_SCHEMA.names, CARRIED, CAPTION}
    stored: list[str] = []
    for position, name in enumerate(names, start=1):
        base = name or f"column_{position}"
        base = f"source_{base}" if base in reserved else base
        unique, count = base, 1
        while unique in stored:
            count += 1
            unique = f"{base}_{count}"
        stored.append(unique)
    return stored


def table_of(
    *,
    key: pa.Array,
    uri: pa.Array,
    version: pa.Array,
    image: pa.Array | None = None,
    text: pa.Array | None = None,
    keywords: pa.Array | None = None,
    problem: pa.Array | None = None,
    line: pa.Array | None = None,
    inside: pa.Array | None = None,
    caption: pa.Array | None = None,
    columns: dict[str, pa.Array],
) -> pa.Table:
    """Returns a batch of items; an item that has nothing to embed, or too much, gets its problem here."""
    count = len(key)

    def column(values: pa.Array | None, kind: pa.DataType) -> pa.Array:
        return pa.nulls(count, kind) if values is None else values.cast(kind)

    image, text = column(image, pa.string()), column(text, pa.string())
    keywords = column(keywords, pa.list_(pa.string()))
    problem, line = column(problem, pa.string()), column(line, pa.int64())
    inside = column(inside, pa.string())
    parts = pc.fill_null(pc.list_value_length(keywords), 0)
    rows = pc.add(pc.add(pc.is_valid(image).cast(pa.int32()), pc.is_valid(text).cast(pa.int32())), parts)
    empty = "Empty: the item has neither a picture nor a text"
    many = f"TooManyKeywords: the item has more than {KEYWORDS_PER_ITEM} keywords"
    problem = pc.if_else(pc.and_(pc.is_null(problem), pc.equal(rows, 0)), empty, problem)
    problem = pc.if_else(pc.and_(pc.is_null(problem), pc.greater(parts, KEYWORDS_PER_ITEM)), many, problem)
    rows = pc.if_else(pc.is_null(problem), rows, 0)
    columns = columns if caption is None else {CAPTION: caption, **columns}
    return pa.table(
        [key, uri, version, image, text, keywords, rows, problem, line, inside, *columns.values()],
        schema=pa.schema([*CORE_SCHEMA, *((name, pa.string()) for name in columns)]),
    )


def chunks_of(rows: np.ndarray[tuple[int], np.dtype[np.int32]], limit: int = 1024) -> list[tuple[int, int]]:
    """Cuts items into runs of at most `limit` items, and of rows at most `limit` and those of the last item.

    Args:
        rows: int32 `(items,)`, the planned rows of every item.

    Returns:
        (items, rows) of every run: what cutting partitions needs to know, at a thousandth of the size.
    """
    if len(rows) == 0:
        return []
    ends = np.cumsum(rows, dtype=np.int64)
    by_rows = np.diff((ends - rows) // limit, prepend=-1) != 0
    by_items = np.arange(len(rows)) % limit == 0
    bounds = np.flatnonzero(by_rows | by_items)
    starts = np.concatenate(([0], ends))[bounds]
    items = np.diff(np.append(bounds, len(rows)))
    return list(zip(items.tolist(), np.diff(np.append(starts, ends[-1])).tolist(), strict=True))


def write(batches: Iterable[pa.Table], file: Path) -> None:
    """Writes item batches as one parquet file with row groups of `ITEMS_PER_GROUP` items.

    Cost: where a batch brings columns that those before had not, all that was written is written once more.
    """
    parts: list[Path] = []
    schema = pa.schema([])
    waiting = iter(batches)
    batch = next(waiting, None)
    while batch is not None:
        schema = _with_columns(schema, batch.schema)
        parts.append(file.with_name(f"{file.name}.{len(parts)}"))
        batch = _write_alike(batch, waiting, schema, parts[-1])
    if len(parts) > 1:
        again = itertools.chain.from_iterable(map(_taken_back, parts[:]))
        parts.append(file.with_name(f"{file.name}.{len(parts)}"))
        _write_alike(schema.empty_table(), again, schema, parts[-1])
    if parts:
        parts[-1].rename(file)


def _write_alike(first: pa.Table, rest: Iterator[pa.Table], schema: pa.Schema, file: Path) -> pa.Table | None:
    """Writes batches until one has other columns than these, and returns that one."""
    held, other = [_filled_up(first, schema)], None
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in rest:
            if not set(batch.column_names) <= set(schema.names):
                other = batch
                break
            held.append(_filled_up(batch, schema))
            if sum(map(len, held)) >= ITEMS_PER_GROUP:
                whole = pa.concat_tables(held)
                ready = len(whole) - len(whole) % ITEMS_PER_GROUP
                writer.write_table(whole.slice(0, ready), row_group_size=ITEMS_PER_GROUP)
                held = [whole.slice(ready)]
        if rows := pa.concat_tables(held):
            writer.write_table(rows, row_group_size=ITEMS_PER_GROUP)
    return other


def _with_columns(schema: pa.Schema, other: pa.Schema) -> pa.Schema:
    return pa.schema([*schema, *(other.field(name) for name in other.names if name not in schema.names)])


def _filled_up(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns a table with all columns of a schema, null where it has none."""
    if table.schema.equals(schema):
        return table
    there = set(table.column_names)
    columns = [table[name] if name in there else pa.nulls(len(table), schema.field(name).type) for name in schema.names]
    return pa.table(columns, schema=schema)


def _taken_back(part: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(part) as opened:
        for batch in opened.iter_batches(ITEMS_PER_GROUP):
            yield pa.Table.from_batches([batch])
    part.unlink()


def read(store: Store, piece: ItemSlice) -> pa.Table:
    """Reads the items of a slice; only the row groups that hold them are read."""
    first, last = piece.start // ITEMS_PER_GROUP, (piece.stop - 1) // ITEMS_PER_GROUP
    with parquet_files.opened(store, piece.table) as file:
        table = file.read_row_groups(range(first, last + 1))
    return table.slice(piece.start - first * ITEMS_PER_GROUP, piece.stop - piece.start)


def scan(store: Store, table: str) -> Iterator[pa.RecordBatch]:
    """Reads keys, versions and planned rows of all items of a table, some at a time."""
    with store.open(table) as stream, parquet_files.making_sense_of(store, table):
        yield from pq.ParquetFile(stream).iter_batches(ITEMS_AT_ONCE, columns=["key", "version", ROWS])


def key_at(store: Store, table: str, position: int) -> tuple[str, str]:
    """Returns the key and the URI of one item, for a message that names it."""
    group, row = divmod(position, ITEMS_PER_GROUP)
    with store.open(table) as stream, parquet_files.making_sense_of(store, table):
        rows = pq.ParquetFile(stream).read_row_group(group, columns=["key", "uri"])
    return rows["key"][row].as_py(), rows["uri"][row].as_py()
