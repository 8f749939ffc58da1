"""Tables: parquet files named by their content, which generations list and share while they are unchanged."""

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.records import FileReference
from transforms.storage import layout
from transforms.storage.store import Store, sha256_of


def write(
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
