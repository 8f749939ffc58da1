"""Parquet files of a root: written with a checksum a page, and read so that a damaged one is named, not believed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.records import FileReference
from transforms.storage.store import Store, damaged, missing


def write(table: pa.Table, file: Path) -> None:
    """Writes a table whose columns need no special encoding."""
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)


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
        if store.filesystem.size(store.full(reference.path)) != reference.bytes:
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
