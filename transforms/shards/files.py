"""Shards on storage: one parquet file of embeddings with metadata, and one of rejects.

Embeddings are stored as `fixed_size_list<float32>[d]`, split into byte streams and compressed with zstd, without
dictionaries: values rounded to float16 take about 1.75 bytes a component, and pandas, polars, duckdb and
embedding-reader read them all the same.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.records import FileReference, row_ids
from transforms.storage import layout, parquet_files
from transforms.storage.arrow_numbers import numbers_of
from transforms.storage.store import Store

ROWS_PER_GROUP = 4096
"""Rows of a parquet row group: what looking up one row's metadata reads."""

FORMAT_KEY = b"pixdex.format_version"
FORMAT_VERSION = b"1"

CORE_COLUMNS = ("key", "uri", "modality", "part", "caption", "version", "width", "height")
EMBEDDING = "embedding"

REJECT_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("uri", pa.string()),
        ("version", pa.string()),
        ("modality", pa.string()),
        ("part", pa.int32()),
        ("stage", pa.string()),
        ("type", pa.string()),
        ("message", pa.string()),
    ],
    metadata={FORMAT_KEY: FORMAT_VERSION},
)


@dataclass(frozen=True)
class Reject:
    """An item that could not be embedded: the row that failed, in which stage, and why."""

    key: str
    uri: str
    version: str
    modality: str | None
    part: int | None
    stage: str
    type: str
    message: str


def write_embeddings(store: Store, shard: int, metadata: pa.Table, vectors: NDArray[np.float32]) -> FileReference:
    """Writes one shard.

    Args:
        store: the root.
        shard: its number, which makes the ids.
        metadata: a row for each vector: `CORE_COLUMNS` and the source's own columns.
        vectors: float32 `(rows, d)`.
    """
    rows, dim = vectors.shape
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
    table = metadata.add_column(0, "id", pa.array(row_ids(shard, rows)))
    table = table.add_column(1 + len(CORE_COLUMNS), pa.field(EMBEDDING, embedding.type), embedding)
    table = table.replace_schema_metadata({FORMAT_KEY: FORMAT_VERSION})
    with store.scratch() as scratch:
        file = scratch / "shard.parquet"
        pq.write_table(
            table,
            file,
            row_group_size=ROWS_PER_GROUP,
            compression="zstd",
            write_page_checksum=True,
            use_dictionary=False,
            column_encoding={f"{EMBEDDING}.list.element": "BYTE_STREAM_SPLIT"},
        )
        return store.upload(file, layout.embeddings_folder(shard), layout.shard_stem(shard))


def write_rejects(store: Store, shard: int, rejects: Sequence[Reject]) -> FileReference | None:
    """Writes the rejects of one shard; none, no file."""
    if not rejects:
        return None
    columns = zip(*map(astuple, rejects), strict=True)
    table = pa.table([pa.array(column) for column in columns], names=REJECT_SCHEMA.names).cast(REJECT_SCHEMA)
    return write_reject_table(store, shard, table)


def write_reject_table(store: Store, shard: int, table: pa.Table) -> FileReference:
    """Writes rejects of one shard (`REJECT_SCHEMA`)."""
    with store.scratch() as scratch:
        file = scratch / "rejects.parquet"
        parquet_files.write(table.replace_schema_metadata(REJECT_SCHEMA.metadata), file)
        return store.upload(file, layout.rejects_folder(shard), layout.shard_stem(shard))


def read_rejects(store: Store, rejects: FileReference) -> pa.Table:
    """Reads the rejects of a shard (`REJECT_SCHEMA`)."""
    return parquet_files.read(store, rejects)


def read_vectors(store: Store, shard: FileReference) -> NDArray[np.float32]:
    """Reads the vectors of a shard, float32 `(rows, d)`; memory is the whole shard's."""
    with parquet_files.opened(store, shard) as file:
        column = file.read(columns=[EMBEDDING])[EMBEDDING].combine_chunks()
    values: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), -1)


def read_rows(store: Store, shard: FileReference, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Reads the vectors of some rows of a shard, float32 `(n, d)`, in the order asked for.

    Cost: each row group that holds one of the rows is read and decoded, about 10 ms for 512 components.
    """
    groups, places = _in_groups(rows)
    with parquet_files.opened(store, shard) as file:
        column = file.read_row_groups(groups, columns=[EMBEDDING])[EMBEDDING].combine_chunks()
    values: NDArray[np.float32] = numbers_of(pa.chunked_array([column.flatten()])).reshape(len(column), -1)
    some: NDArray[np.float32] = values[places]
    return some


def read_columns(store: Store, shard: FileReference, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
    """Reads columns of some rows of a shard, in the order asked for."""
    groups, places = _in_groups(rows)
    return pa.concat_tables(read_groups(store, shard, groups, columns)).take(pa.array(places))


def _in_groups(rows: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """The row groups of some rows of a shard, and the place of each row where these stand one behind the other."""
    groups, owners = np.unique(rows // ROWS_PER_GROUP, return_inverse=True)
    return groups.tolist(), owners * ROWS_PER_GROUP + rows % ROWS_PER_GROUP


def read_groups(
    store: Store, shard: FileReference, groups: Sequence[int], columns: Sequence[str] | None = None
) -> list[pa.Table]:
    """Reads some row groups of a shard: all columns but the vectors, or those of some names that there are."""
    with parquet_files.opened(store, shard) as file:
        there = [name for name in file.schema_arrow.names if name != EMBEDDING]
        names = [name for name in there if columns is None or name in columns]
        return [file.read_row_group(group, columns=names) for group in groups]
