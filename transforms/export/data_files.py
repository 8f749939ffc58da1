"""Writes rows as files that are read elsewhere: parquet with row groups of one size, and `.npy`, front to back."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.shards.files import EMBEDDING

METADATA_ROWS: Final = 1 << 16
"""Rows of a row group without vectors."""

_GROUP_BYTES: Final = 32 << 20
"""Of the vectors of a row group."""


def vector_rows(dim: int) -> int:
    """Returns the rows of a row group with vectors, a power of two.

    >>> vector_rows(512), vector_rows(4)
    (16384, 65536)
    """
    return 1 << max(0, min(METADATA_ROWS, _GROUP_BYTES // (4 * dim)).bit_length() - 1)


def write_parquet(file: Path, schema: pa.Schema, tables: Iterable[pa.Table], group_rows: int) -> None:
    """Writes a parquet file, zstd, whose row groups have `group_rows` rows each, the last one fewer.

    Vectors are split into byte streams and have no dictionary, as in shards. Memory: a row group, twice.

    Args:
        file: is made.
        schema: of all tables.
        tables: rows, however they are cut.
        group_rows: rows of a group.
    """
    texts = [field.name for field in schema if field.name != EMBEDDING]
    settings: dict[str, object] = {"use_dictionary": texts or False}
    if EMBEDDING in schema.names:
        settings["column_encoding"] = {f"{EMBEDDING}.list.element": "BYTE_STREAM_SPLIT"}
    with pq.ParquetWriter(file, schema, compression="zstd", **settings) as writer:
        for group in _groups(tables, group_rows):
            writer.write_table(group, row_group_size=group_rows)


def _groups(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        rest = table
        while count + len(rest) >= rows:
            yield pa.concat_tables([*held, rest.slice(0, rows - count)]).combine_chunks()
            rest, held, count = rest.slice(rows - count), [], 0
        held.append(rest)
        count += len(rest)
    if count:
        yield pa.concat_tables(held).combine_chunks()


def vectors_column(vectors: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Returns vectors, float32 `(n, d)`, as a column `fixed_size_list<float32>[d]`."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def vectors_type(dim: int) -> pa.DataType:
    """Returns the type of that column."""
    return pa.list_(pa.float32(), dim)


def write_npy(file: Path, shape: tuple[int, int], parts: Iterable[NDArray[np.float32]], *, as_halves: bool) -> None:
    """Writes vectors as an `.npy` file of version 1.

    Args:
        file: is made.
        shape: rows and components.
        parts: float32 `(n, d)`, one after the other.
        as_halves: as float16, which they must be exactly.

    Raises:
        PixdexError: a vector is not what float16 holds, or there are not as many as were named.
    """
    dtype, rows = np.dtype("<f2" if as_halves else "<f4"), 0
    with file.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        for part in parts:
            with np.errstate(over="ignore"):
                stored = np.ascontiguousarray(part, dtype)
            if as_halves and not np.array_equal(stored.astype(np.float32), part):
                raise PixdexError(
                    "a stored vector is no float16, though the root was embedded with --precision float16: "
                    "pixdex verify says what is damaged"
                )
            out.write(stored.data)
            rows += len(part)
    if rows != shape[0]:
        raise PixdexError(f"{rows} vectors came of {shape[0]}: pixdex verify says what is damaged")
