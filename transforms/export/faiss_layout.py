"""`faiss`: one `index.faiss`, and tables that say which row each of its ids is.

| file | holds |
|---|---|
| `index.faiss` | all living rows, with ids 0 to n - 1 in the order of pixdex's ids |
| `ids/part-*.parquet` | `id`, `pixdex_id`, key, URI, modality, part, caption, width, height, and the sources' columns |
"""

from functools import partial
from pathlib import Path

from transforms.export.columns import columns_of
from transforms.export.destination import ExportFile
from transforms.export.id_table import PIXDEX_ID, id_tables
from transforms.export.index_file import write_index
from transforms.export.layout import Layout
from transforms.export.origin import Origin

NUMBER = "id"
"""The column with the ids of the index."""


def layout(origin: Origin, folder: Path, rows_per_file: int) -> Layout:
    """Returns the files of an export for faiss."""
    rows = origin.all_rows
    columns = columns_of(origin, (NUMBER, PIXDEX_ID))
    index = ExportFile("index.faiss", rows.count, partial(write_index, origin, [rows]))
    return Layout(rows.count, (index, *id_tables(origin, columns, NUMBER, rows_per_file)))
