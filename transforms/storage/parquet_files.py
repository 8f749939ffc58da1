"""Parquet files of a root: written with a checksum a page, and read so that a damaged one is named, not believed.

*Tables* are those that are named by their content, so that generations list and share them while they are unchanged.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import PixdexError, UnsafePathError, UsageError, check_file, check_path
from transforms.ready_range import VectorRange
from transforms.records import FileReference
from transforms.storage import layout
from transforms.storage.arrow_numbers import numbers_of
from transforms.storage.store import Store, damaged, missing, sha256_of

_HINTS: Final = get_type_hints(VectorRange)

READY: Final = pa.struct(
    [(field.name, pa.int64() if _HINTS[field.name] is int else pa.string()) for field in fields(VectorRange)]
)
"""The type of the column that says where the vectors of a shard of ready embeddings are."""

_READY_OF_ALL: Final = pa.struct(list(READY)[: READY.get_field_index("metadata_version") + 1])


def with_ready(schema: pa.Schema, ranges: Iterable[VectorRange | None]) -> pa.Schema:
    """Returns a schema whose column `ready` holds ranges: without fields that came later, where none says anything."""
    later = [field.name for field in READY][len(_READY_OF_ALL) :]
    says = any(getattr(one, name) is not None for one in ranges if one is not None for name in later)
    kind = READY if says else _READY_OF_ALL
    return schema.set(schema.get_field_index("ready"), pa.field("ready", kind))


FILE: Final = (("path", pa.string()), ("bytes", pa.int64()), ("checksum", pa.string()))
"""The columns of a row that names a file of the root."""

_SENSELESS: Final = (
    pa.ArrowException, ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError,
)  # fmt: skip
"""What is raised where a file holds other columns, types or values than it was written with."""


@contextlib.contextmanager
def making_sense_of(store: Store, path: str) -> Iterator[None]:
    """Turns all that a file without sense makes the block raise into the one error that names the file.

    For blocks that do nothing but read: a mistake of their own would be taken for damage.

    Raises:
        PixdexError: the file is damaged.
        UsageError: it names a file that is not plainly one below the root.
    """
    try:
        yield
    except UnsafePathError as error:
        raise UsageError(f"{store.full(path)}: {error}") from error
    except PixdexError:
        raise
    except (*_SENSELESS, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the machine; those of Arrow have no number
            raise
        raise damaged(store, path, _first_line(error)) from error


def write(table: pa.Table, file: Path) -> None:
    """Writes a table whose columns need no special encoding."""
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def write_table(
    store: Store, table: pa.Table, rows_per_group: int | None = None, folder: str = layout.TABLES
) -> FileReference:
    """Writes a table; equal ones have one name.

    Args:
        store: the root.
        table: what to write.
        rows_per_group: rows that a reader must read at least. Smaller groups make parts of a table cheap to read.
        folder: where; that of a run for what no generation lists.
    """
    with store.scratch() as scratch:
        file = scratch / "table.parquet"
        pq.write_table(table, file, row_group_size=rows_per_group, compression="zstd", write_page_checksum=True)
        checksum = sha256_of(file)
        return store.upload_as(file, layout.table(checksum, folder), f"sha256:{checksum}")


@contextlib.contextmanager
def opened(store: Store, reference: FileReference) -> Iterator[pq.ParquetFile]:
    """Opens a file for reading; every page that is read inside the block is checked.

    Raises:
        PixdexError: the file is missing, has another size than its reference says, or is damaged.
    """
    try:
        if store.local is not None:
            # By its path: Arrow's threads must not hold a Python file when the interpreter ends.
            source: object = store.local_path(reference.path)
        else:
            source = store.open(reference.path)
        if store.size(reference.path) != reference.bytes:
            raise damaged(store, reference.path, f"it should have {reference.bytes} bytes")
        with (
            making_sense_of(store, reference.path),
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            yield file
    except FileNotFoundError as error:
        raise missing(store, reference.path) from error
    except OSError as error:
        raise damaged(store, reference.path, _first_line(error)) from error


def read(store: Store, reference: FileReference) -> pa.Table:
    """Reads a whole file, every byte of it checked.

    Its column `path`, where it has one, names files of the root: a table of a generation, and no source's own.

    Raises:
        PixdexError: the file is missing or damaged.
        UsageError: a path in it is not plainly one below the root.
    """
    store.check(reference)
    with opened(store, reference) as file:
        table = file.read()
        if "path" in table.column_names:
            for path in table["path"].to_pylist():
                check_path(str(path or "none"))  # a shard of which every item was rejected has no file
        return table


_FILE: Final = {name for name, _ in FILE}


def read_rows(
    store: Store, reference: FileReference, schema: pa.Schema, may_lack: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Reads the rows of a table, every byte of it checked, and that they are what a row of it is.

    Args:
        store: the root.
        reference: the table.
        schema: its columns. Integers are counts, none of them negative; a row with a `path`, and a struct in a row,
            names a file by it, `bytes` and `checksum`.
        may_lack: columns that may be missing, or null in a row.

    Raises:
        PixdexError: the table is missing or damaged, or refers to a file as none can be.
    """
    table = read(store, reference)
    with making_sense_of(store, reference.path):
        for column in schema:
            if column.name in table.column_names:
                _check_column(table[column.name], column, nullable=column.name in may_lack)
            elif column.name not in may_lack:
                raise ValueError(f"it has no column {column.name}")
        rows: list[dict[str, Any]] = table.to_pylist()
        for row in rows:
            inside = [value for value in row.values() if isinstance(value, dict) and not value.keys().isdisjoint(_FILE)]
            for file in [*([row] if row.get("path") is not None else []), *inside]:
                named = FileReference(file["path"], file["bytes"], file["checksum"])
                check_file(named.path, named.bytes, named.checksum)
    return rows


def _check_column(values: pa.ChunkedArray, column: pa.Field, *, nullable: bool) -> None:
    if not len(values):
        return  # of any type, where a table has no rows
    if values.null_count and not nullable:
        raise ValueError(f"{column.name} is missing in {values.null_count} rows")
    if not pa.types.is_null(values.type) and not _is_part(values.type, column.type):
        raise ValueError(f"{column.name} is {values.type} instead of {column.type}")
    if pa.types.is_int64(values.type) and not values.null_count and (numbers_of(values) < 0).any():
        raise ValueError(f"{column.name} is negative in a row")


def _is_part(kind: pa.DataType, of: pa.DataType) -> bool:
    """Tells whether a type is the same as another, or a struct of some of its fields."""
    if not (pa.types.is_struct(kind) and pa.types.is_struct(of)):
        return bool(kind == of)
    places = ((kind.field(place), of.get_field_index(kind.field(place).name)) for place in range(kind.num_fields))
    return all(place >= 0 and of.field(place).type == field.type for field, place in places)


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines() or ["no more is known"]
    kind = "" if isinstance(error, pa.ArrowException | OSError) else f"{type(error).__name__}: "
    return f"{kind}{said[0][:300]}"
