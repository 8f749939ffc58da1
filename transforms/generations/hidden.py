"""Hidden keys: items that stay where they are, and that no search returns."""

from collections.abc import Iterable

import pyarrow as pa

from transforms.generations.manifest import Generation
from transforms.generations.tables import HIDDEN
from transforms.records import FileReference
from transforms.storage import parquet_files
from transforms.storage.store import Store


def read(store: Store, generation: Generation) -> list[str]:
    """Returns the hidden keys of a generation, ascending.

    Raises:
        PixdexError: their table is missing or damaged.
    """
    table = generation.tables.hidden
    return [] if table is None else [row["key"] for row in parquet_files.read_rows(store, table, HIDDEN)]


def count(store: Store, generation: Generation) -> int:
    """Returns how many keys are hidden, of items and of those that may come; raises as `read`."""
    table = generation.tables.hidden
    return 0 if table is None else len(parquet_files.read(store, table))


def write(store: Store, keys: Iterable[str]) -> FileReference | None:
    """Writes the table of hidden keys; none are no table, and equal ones have one name."""
    ordered = sorted(set(keys))
    return parquet_files.write_table(store, pa.table({"key": ordered}, schema=HIDDEN)) if ordered else None
