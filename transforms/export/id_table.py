"""The tables that say which row a dense number of a faiss index is."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from transforms.export.columns import Columns
from transforms.export.data_files import METADATA_ROWS, write_parquet
from transforms.export.destination import ExportFile, Tell
from transforms.export.numbering import ranges
from transforms.export.origin import Origin
from transforms.export.rows import metadata_between
from transforms.storage.arrow_numbers import array_of

PIXDEX_ID = "pixdex_id"
"""The column with ids as pixdex has them."""


def id_tables(origin: Origin, columns: Columns, number: str, rows_per_file: int) -> list[ExportFile]:
    """Returns the files below `ids/`, with a row for each living row: its number, its id, and what it is.

    Args:
        origin: the generation.
        columns: what is known of a row.
        number: name of the column with the number.
        rows_per_file: rows of a file, at most.
    """
    numbered = [pa.field(name, pa.int64(), nullable=False) for name in (number, PIXDEX_ID)]
    schema = pa.schema([*numbered, *columns.schema])
    cuts = ranges(0, origin.all_rows.count, rows_per_file) or [(0, 0)]
    return [
        ExportFile(f"ids/part-{place:05d}.parquet", stop - start, partial(_write, origin, columns, schema, start, stop))
        for place, (start, stop) in enumerate(cuts)
    ]


def _write(origin: Origin, columns: Columns, schema: pa.Schema, start: int, stop: int, file: Path, tell: Tell) -> None:
    def tables() -> Iterator[pa.Table]:
        number = start
        for rows in metadata_between(origin, origin.all_rows, start, stop, columns):
            assert rows.table is not None
            numbers = np.arange(number, number + len(rows.ids))
            number += len(rows.ids)
            yield pa.Table.from_arrays([array_of(numbers), array_of(rows.ids), *rows.table.columns], schema=schema)
            tell(len(rows.ids))

    write_parquet(file, schema, tables(), METADATA_ROWS)
