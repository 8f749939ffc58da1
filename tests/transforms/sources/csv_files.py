"""CSV files as sources of items: writing one, and all that is read of it."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transforms.records import Source
from transforms.sources.csv_rows import CsvListing


def source(file: object, **columns: Any) -> Source:
    location = str(file)
    return Source("csv", location if "://" in location else f"file://{location}", **columns)


def rows(file: object, **columns: Any) -> list[dict[str, Any]]:
    return [row for batch in CsvListing(source(file, **columns)).batches() for row in batch.to_pylist()]


def write(file: Path, table: Sequence[Sequence[str]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(table)
    return file
