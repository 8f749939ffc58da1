"""The columns of exported rows: those that every row has, and those of the sources, each of one type in all shards."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from transforms.export.origin import Origin
from transforms.markers import ShardMarker
from transforms.search import ready_metadata
from transforms.shards.files import CORE_COLUMNS, EMBEDDING
from transforms.storage import parquet_files

CORE: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)
"""What is known of every row; width and height of pictures that pixdex decoded."""

_READERS: Final = 8


@dataclass(frozen=True)
class Columns:
    """What is written of a row beside its vector and its numbers.

    Attributes:
        source: the sources' own columns, as shards name them.
        names: what each of these is called in an export.
    """

    source: tuple[pa.Field, ...]
    names: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns as they are written."""
        own = [pa.field(name, field.type) for name, field in zip(self.names, self.source, strict=True)]
        return pa.schema([*CORE, *own])

    @property
    def read(self) -> list[str]:
        """What is read of a shard."""
        return [*CORE.names, *(field.name for field in self.source)]

    def written(self, table: pa.Table) -> pa.Table:
        """Returns rows of a shard with all columns, in order, name and type; those that the shard lacks are null."""
        made = []
        for wanted, field in zip(self.read, self.schema, strict=True):
            there = table.column_names.index(wanted) if wanted in table.column_names else None
            made.append(pa.nulls(len(table), field.type) if there is None else _cast(table.column(there), field.type))
        return pa.Table.from_arrays(made, schema=self.schema)

    def written_rows(self, rows: Sequence[dict[str, Any]]) -> pa.Table:
        """Returns the same of rows as `ready_metadata` tells them."""
        made = [
            pa.array([_value(row.get(name), field.type) for row in rows], field.type)
            for name, field in zip(self.read, self.schema, strict=True)
        ]
        return pa.Table.from_arrays(made, schema=self.schema)


def columns_of(origin: Origin, taken: Collection[str]) -> Columns:
    """Returns the columns of all rows of a generation.

    Of a column whose type differs from shard to shard the values become text.

    Args:
        origin: the generation.
        taken: names that the layout has for columns of its own: a source's column of such a name gets a prefix.

    Cost: the footer of each shard is read, of ready embeddings that of each file of metadata.

    Raises:
        PixdexError: a shard, or what stands beside ready embeddings, is missing or damaged.
    """
    types: dict[str, pa.DataType] = {}
    with ThreadPoolExecutor(_READERS, "footers") as pool:
        for found in pool.map(lambda shard: list(_own_fields(origin, shard)), _each_file_once(origin.shards.values())):
            for name, kind in found:
                types[name] = kind if name not in types else _both(types[name], kind)
    fields = [pa.field(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in types.items()]
    return Columns(tuple(fields), tuple(unique_names([field.name for field in fields], [*CORE.names, *taken])))


def unique_names(names: Sequence[str], taken: Collection[str]) -> list[str]:
    """Returns names that are none of those taken, nor twice: one that is gets a prefix.

    >>> unique_names(["price", "url", "source_url"], ["url"])
    ['price', 'source_source_url', 'source_url']
    """
    kept = [name for name in names if name not in taken]
    made: list[str] = []
    for name in names:
        unique = name
        while unique in taken or (unique != name and unique in (*kept, *made)):
            unique = f"source_{unique}"
        made.append(unique)
    return made


def _each_file_once(shards: Iterable[ShardMarker]) -> Iterator[ShardMarker]:
    """Ranges of one file of ready embeddings follow each other, and have the same columns."""
    yield from (next(group) for _, group in itertools.groupby(shards, _file_of))


def _file_of(shard: ShardMarker) -> object:
    return shard.shard if shard.ready is None else shard.ready.uri


def _own_fields(origin: Origin, shard: ShardMarker) -> Iterator[tuple[str, pa.DataType]]:
    if shard.ready is not None:
        yield from ready_metadata.types_of(shard.ready).items()
        return
    assert shard.embeddings is not None
    with parquet_files.opened(origin.store, shard.embeddings) as file:
        own = [field for field in file.schema_arrow if field.name not in ("id", *CORE_COLUMNS, EMBEDDING)]
        yield from [(field.name, field.type) for field in own]


def _both(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds values of two."""
    if one == other or pa.types.is_null(other):
        return one
    return other if pa.types.is_null(one) else pa.string()


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), kind)])
    return pa.chunked_array([pa.array([_value(value, kind) for value in column.to_pylist()], kind)])


def _value(value: Any, kind: pa.DataType) -> Any:
    return str(value) if value is not None and pa.types.is_string(kind) and not isinstance(value, str) else value
