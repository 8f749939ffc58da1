"""Files of ready embeddings, `.npy` and parquet: what their header or footer says, and which version they are.

Nothing here reads a vector, but for the first rows of a parquet file whose type does not say how long it is.
"""

import ast
import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from stat import S_ISREG
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import PixdexError, UsageError
from transforms.nearest import no_column
from transforms.storage import uris

_MAGIC: Final = b"\x93NUMPY"
_HEAD_BYTES: Final = 4096
"""What is read of a `.npy` file first; a header of numpy's own takes 128 bytes."""

_HEAD_LIMIT: Final = 1 << 20
_DTYPES: Final = ("<f2", "<f4")

_ROWS_AT_FIRST: Final = 64

_BUFFER_BYTES: Final = 4 << 20
"""Read of a parquet column at once: without a limit Arrow holds a column of a row group, however large, in memory."""


@dataclass(frozen=True)
class NpyHead:
    """What the header of a `.npy` file says: `rows` vectors of `dim` components of type `dtype` from byte `offset`."""

    rows: int
    dim: int
    dtype: str
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one vector."""
        return self.dim * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class ParquetHead:
    """What the footer of a parquet file says: rows, components (None where there is no vector), names of columns."""

    rows: int
    dim: int | None
    names: tuple[str, ...]


def local_path(uri: str) -> str | None:
    """Returns the path on this machine of a `file://` URI, in the spelling that exists; None for any other URI."""
    return uris.existing_path(uri.removeprefix("file://")) if uri.startswith("file://") else None


def stat(uri: str) -> tuple[int, str]:
    """Returns the size in bytes and the version of a file, as they are now.

    Links are followed: the version is that of the file they lead to.

    Raises:
        OSError: there is no such file, or it is a folder, a pipe or a device.
    """
    path = local_path(uri)
    if path is not None:
        status = os.stat(path)  # noqa: PTH116 - the path may hold undecodable bytes
        if not S_ISREG(status.st_mode):  # a pipe would block for ever
            raise OSError("not a regular file")
        return status.st_size, _version(status)
    filesystem, name = uris.filesystem_of(uri)
    filesystem.invalidate_cache()
    info = filesystem.info(name)
    return int(info["size"]), uris.version(info)


def npy_head(uri: str, size: int) -> NpyHead:
    """Reads the header of a `.npy` file of `size` bytes; versions 1, 2 and 3 of the format.

    Raises:
        UsageError: it is no such file, is cut short, has more bytes than the header accounts for, or holds anything but
            vectors of float16 or float32 row by row.
    """
    data = read_range(uri, 0, min(size, _HEAD_BYTES))
    if data[:6] != _MAGIC or len(data) < 12 or data[6] not in (1, 2, 3):
        raise UsageError(f"{uri} is no .npy file: write one with numpy.save")
    begin = 10 if data[6] == 1 else 12
    offset = begin + int.from_bytes(data[8:begin], "little")
    if offset > _HEAD_BYTES:
        data = read_range(uri, 0, min(offset, size, _HEAD_LIMIT))
    try:
        head = ast.literal_eval(data[begin:offset].decode("utf-8" if data[6] == 3 else "latin-1").strip())
        shape, dtype, by_columns = tuple(head["shape"]), head["descr"], bool(head["fortran_order"])
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise UsageError(f"{uri} has a damaged .npy header: write the file anew with numpy.save") from error
    if len(shape) != 2 or not all(isinstance(side, int) and side >= 0 for side in shape) or shape[1] < 1:
        raise UsageError(f"{uri} holds an array of shape {shape}: vectors are rows, save an array of (rows, dim)")
    if dtype not in _DTYPES:
        shown = dtype if isinstance(dtype, str) else "records"
        raise UsageError(f"{uri} holds {shown}, vectors are <f2 or <f4: save array.astype('<f4') instead")
    if by_columns and min(shape) > 1:
        raise UsageError(f"{uri} is stored column by column: save numpy.ascontiguousarray(array) instead")
    vectors = NpyHead(shape[0], shape[1], dtype, offset)
    needed = offset + vectors.rows * vectors.row_bytes
    if size < needed:
        raise UsageError(
            f"{uri} is cut short: {vectors.rows} vectors of {vectors.dim} {dtype} take {needed} bytes, it has {size}: "
            "copy it again"
        )
    if size > needed:
        raise UsageError(
            f"{uri} has {size - needed} bytes behind the {vectors.rows} vectors that its header names: where arrays "
            "were saved one behind the other, save numpy.concatenate of them instead"
        )
    return vectors


def read_range(uri: str, start: int, stop: int) -> bytes:
    """Returns bytes `start` to `stop` (exclusive) of a file; fewer where it ends before."""
    path = local_path(uri)
    if path is not None:
        with open(path, "rb") as stream:  # noqa: PTH123 - the path may hold undecodable bytes
            stream.seek(start)
            return stream.read(stop - start)
    filesystem, name = uris.filesystem_of(uri)
    data: bytes = filesystem.cat_file(name, start=start, end=stop)
    return data


def read_ranges(uri: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Returns ranges of bytes of a file that is not on this machine, each as `read_range` does, several at a time."""
    filesystem, name = uris.filesystem_of(uri)
    return uris.read_ranges(filesystem, name, ranges)


def read_local(path: str, starts: Sequence[int], size: int) -> tuple[str, list[bytes]]:
    """Returns the version of a file of this machine, and `size` bytes from each start; fewer where it ends before.

    Raises:
        OSError: there is no such file, or it is a folder.
    """
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - the path may hold undecodable bytes
        descriptor = stream.fileno()
        status = os.fstat(descriptor)
        return _version(status), [os.pread(descriptor, size, start) for start in starts]


def _version(status: os.stat_result) -> str:
    return uris.version({"size": status.st_size, "mtime": status.st_mtime})


@contextlib.contextmanager
def opened(uri: str) -> Iterator[pq.ParquetFile]:
    """Opens a parquet file for reading, page by page.

    Raises:
        PixdexError: it is missing, or cannot be read as parquet.
    """
    stream: Any = None
    try:
        # By its path where it has one: Arrow's threads must not hold a Python file when the interpreter ends.
        source: Any = local_path(uri)
        if source is None:
            filesystem, name = uris.filesystem_of(uri)
            source = stream = filesystem.open(name, "rb")
        with pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield file
    except PixdexError:
        raise
    except (pa.ArrowException, ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        mend = "write it anew, or leave it out"
        if "Expected all lists to be of size" in why:  # seen in pyarrow 25
            mend = "Arrow reads no missing vectors in lists of a fixed size: write the column as plain lists"
        raise PixdexError(f"{uri} cannot be read as parquet ({why}): {mend}") from error
    finally:
        if stream is not None:
            stream.close()


def parquet_head(uri: str, column: str) -> ParquetHead:
    """Reads the footer of a parquet file, and its first rows where the type of the column does not tell their length.

    Vectors are then as long as most of the first rows that hold any: one odd row is a reject, and decides nothing.

    Raises:
        UsageError: it is no parquet file, two columns have one name, or the one that is asked for is not there or holds
            no lists of float16 or float32.
    """
    try:
        with opened(uri) as file:
            schema = file.schema_arrow
            check_names(uri, schema)
            if column not in schema.names:
                raise UsageError(f"{uri} {no_column(column, schema.names)}: name one with --vector-column")
            kind = schema.field(column).type
            if not is_vector(kind):
                raise UsageError(
                    f"{uri}: column {column} is {kind}, vectors are lists of halffloat or float: cast it, or name "
                    "another with --vector-column"
                )
            return ParquetHead(file.metadata.num_rows, _dim(file, column, kind), tuple(schema.names))
    except UsageError:
        raise
    except PixdexError as error:
        raise UsageError(str(error)) from error


def check_names(uri: str, schema: pa.Schema) -> None:
    """Refuses a table in which a name stands for several columns, or for several fields of a struct in one.

    Raises:
        UsageError: naming it.
    """
    double = _double_name(pa.struct(schema))
    if double is not None:
        raise UsageError(f"{uri} has several columns {double}: give each a name of its own")


def _double_name(kind: pa.DataType) -> str | None:
    """Returns the path of a name that two fields of a struct have, however deep in a type."""
    fields = [kind.field(number) for number in range(kind.num_fields)]
    if pa.types.is_struct(kind):
        names = Counter(field.name for field in fields)
        if (double := next((name for name, count in names.items() if count > 1), None)) is not None:
            return str(double)
    for field in fields:
        if (double := _double_name(field.type)) is not None:
            return f"{field.name}.{double}"
    return None


def is_vector(kind: pa.DataType) -> bool:
    """Tells whether a column of this type holds vectors: lists, of any kind, of float16 or float32."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    return bool(pa.types.is_float16(kind.value_type) or pa.types.is_float32(kind.value_type))


def _dim(file: pq.ParquetFile, column: str, kind: pa.DataType) -> int | None:
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    for batch in file.iter_batches(batch_size=_ROWS_AT_FIRST, columns=[column]):
        lengths = Counter(len(value) for value in batch.column(0) if value.is_valid and len(value))
        if lengths:
            return lengths.most_common(1)[0][0]
    return None
