"""Files of ready embeddings, in every form that is taken."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.ready_range import VectorRange
from transforms.shards import ready_files

ListKind = Literal["list", "large_list", "fixed"]

Vectors = NDArray[Any]


def random_vectors(rows: int, dim: int, dtype: str = "<f2", seed: int = 0) -> Vectors:
    """Vectors of a normal distribution."""
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(dtype)


def save_npy(file: Path, vectors: Vectors) -> Path:
    """Writes vectors as `.npy`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, vectors)
    return file


def list_type(kind: ListKind, value: pa.DataType, dim: int) -> pa.DataType:
    """The type of a column of vectors."""
    return {"list": pa.list_(value), "large_list": pa.large_list(value), "fixed": pa.list_(value, dim)}[kind]


def save_parquet(
    file: Path,
    vectors: Sequence[Any] | Vectors,
    kind: ListKind = "list",
    column: str = "embedding",
    group: int | None = None,
    columns: dict[str, Any] | None = None,
) -> Path:
    """Writes vectors, or rows of anything that a column of lists can hold, as parquet beside other columns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(vectors, np.ndarray):
        value = pa.from_numpy_dtype(vectors.dtype)
        array = pa.array(list(vectors), list_type(kind, value, vectors.shape[1]))
    else:
        array = pa.array(vectors, list_type(kind, pa.float32(), max(len(row) for row in vectors if row is not None)))
    pq.write_table(pa.table({**(columns or {}), column: array}), file, row_group_size=group)
    return file


def range_of(file: Path, start: int, stop: int, metadata: Path | None = None) -> VectorRange:
    """Rows of a file, as a plan would name them."""
    uri = f"file://{file}"
    parquet = file.suffix == ".parquet"
    return VectorRange(
        uri=uri,
        format="parquet" if parquet else "npy",
        start=start,
        stop=stop,
        version=ready_files.stat(uri)[1],
        column="embedding" if parquet else None,
        metadata=f"file://{metadata}" if metadata else None,
        metadata_version=ready_files.stat(f"file://{metadata}")[1] if metadata else None,
    )
