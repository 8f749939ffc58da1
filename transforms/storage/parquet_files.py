"""Parquet files of a root: written with a checksum a page, and read so that a damaged one is named, not believed.

*Tables* are those that are named by their content, so that generations list and share them while they are unchanged.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.records import FileReference, VectorRange
from transforms.storage import layout
from transforms.storage.store import Store, damaged, missing, sha256_of

_HINTS: Final = get_type_hints(VectorRange)

READY: Final = pa.struct(
    [(field.name, pa.int64() if _HINTS[field.name] is int else pa.string()) for field in fields(VectorRange)]
)


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
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError as error:
        raise missing(store, reference.path) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(store, reference.path, str(error).splitlines()[0][:200]) from error


def read(store: Store, reference: FileReference) -> pa.Table:
    """Reads a whole file, every byte of it checked.

    Raises:
        PixdexError: the file is missing or damaged.
    """
    store.check(reference)
    with opened(store, reference) as file:
        return file.read()
