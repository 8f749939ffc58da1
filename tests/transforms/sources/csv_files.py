"""CSV files as sources of items: writing one, and all that is read of it."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transforms.records import Source
from transforms.sources.table_rows import RowListing


def source(file: object, **columns: Any) -> Source:
    location = str(file)
    return Source("csv", location if "://" in location else f"file://{location}", **columns)


def rows(file: object, **columns: Any) -> list[dict[str, Any]]:
    listing = RowListing(source(file, **columns))
    return [row for name in listing.containers() for batch in listing.batches(name) for row in batch.to_pylist()]


def write(file: Path, table: Sequence[Sequence[str]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(table)
    return file
