"""`parquet`: a data set of rows with their vectors, for whatever reads parquet.

| file | holds |
|---|---|
| `image-*.parquet` | pictures by id: `id`, key, URI, modality, part, caption, size, the sources' columns, `embedding` |
| `text-*.parquet`, `keyword-*.parquet` | the same of texts and of keywords |
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from transforms.export.columns import Columns, columns_of
from transforms.export.data_files import vector_rows, vectors_column, vectors_type, write_parquet
from transforms.export.destination import ExportFile, Tell
from transforms.export.layout import Layout
from transforms.export.numbering import Numbering, ranges
from transforms.export.origin import Origin
from transforms.export.rows import all_between
from transforms.shards.files import EMBEDDING
from transforms.storage.arrow_numbers import array_of

ID: Final = "id"
"""The column with ids as pixdex has them."""


def layout(origin: Origin, folder: Path, rows_per_file: int) -> Layout:
    """Returns the files of a data set of parquet."""
    columns = columns_of(origin, (ID, EMBEDDING))
    vectors = pa.field(EMBEDDING, vectors_type(origin.dim), nullable=False)
    schema = pa.schema([pa.field(ID, pa.int64(), nullable=False), *columns.schema, vectors])
    kinds = {modality: rows for modality, rows in origin.of_kinds().items() if rows.count}
    files = [
        ExportFile(
            f"{modality}-{place:05d}.parquet",
            stop - start,
            partial(_write, origin, rows, columns, schema, start, stop),
        )
        for modality, rows in kinds.items()
        for place, (start, stop) in enumerate(ranges(0, rows.count, rows_per_file))
    ]
    return Layout(sum(rows.count for rows in kinds.values()), tuple(files))


def _write(
    origin: Origin,
    rows: Numbering,
    columns: Columns,
    schema: pa.Schema,
    start: int,
    stop: int,
    file: Path,
    tell: Tell,
) -> None:
    def tables() -> Iterator[pa.Table]:
        for part in all_between(origin, rows, start, stop, columns):
            assert part.table is not None and part.vectors is not None
            arrays = [array_of(part.ids), *part.table.columns, vectors_column(part.vectors)]
            yield pa.Table.from_arrays(arrays, schema=schema)
            tell(len(part.ids))

    write_parquet(file, schema, tables(), vector_rows(origin.dim))
