"""Columns of parquet files as other formats can hold them, and which of them are data of rows at all.

Bytes, also inside structs and lists, and vectors are none: whoever lists what a row is wants neither.
"""

import json
import math
from collections.abc import Set
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def leaves(file: pq.ParquetFile, names: Set[str]) -> list[str]:
    """Returns the paths of the primitive columns, also those inside others, of some columns; none that holds bytes."""
    columns = [file.schema.column(place) for place in range(len(file.schema))]
    paths = [column.path for column in columns if not _holds_bytes(column)]
    return [path for path in paths if path in names or path.startswith(tuple(f"{name}." for name in names))]


def _holds_bytes(leaf: pq.ColumnSchema) -> bool:
    if leaf.physical_type not in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
        return False
    return leaf.logical_type.type in ("NONE", "BSON", "UUID")


def is_vector(field: pa.Field) -> bool:
    """Tells whether a column holds lists of floats."""
    return hasattr(field.type, "value_type") and bool(pa.types.is_floating(field.type.value_type))


def plain(column: pa.ChunkedArray) -> list[Any]:
    """Returns the values of a column as JSON can hold them: dates and the like as strings, NaN as null."""
    kind = column.type
    if pa.types.is_floating(kind):
        numbers: list[float | None] = column.cast(pa.float64()).to_pylist()
        return [number if number is None or math.isfinite(number) else None for number in numbers]
    values: list[Any] = column.to_pylist()
    inner = kind.value_type if is_list(kind) else kind
    if pa.types.is_integer(inner) or pa.types.is_boolean(inner) or is_string(inner):
        return values
    return [value if value is None or isinstance(value, str) else str(value) for value in values]


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type of what `plain` makes of the values of a column.

    >>> str(plain_type(pa.float16())), str(plain_type(pa.date32())), str(plain_type(pa.list_(pa.large_string())))
    ('double', 'string', 'list<item: string>')
    """
    if pa.types.is_floating(kind):
        return pa.float64()
    inner = kind.value_type if is_list(kind) else kind
    if not (pa.types.is_integer(inner) or pa.types.is_boolean(inner) or is_string(inner)):
        return pa.string()
    inner = pa.string() if is_string(inner) else inner
    return pa.list_(inner) if is_list(kind) else inner


def cells(column: pa.Array) -> pa.Array:
    """Returns the values of a column as strings: numbers and dates as Arrow spells them, nested values as JSON.

    NaN and infinity are null.

    >>> cells(pa.array([1.5, float("nan")])).to_pylist(), cells(pa.array([[1], None])).to_pylist()
    (['1.5', None], ['[1]', None])
    """
    kind = column.type
    if isinstance(column, pa.ExtensionArray | pa.DictionaryArray):
        return cells(column.storage if isinstance(column, pa.ExtensionArray) else column.dictionary_decode())
    if pa.types.is_floating(kind):
        wide = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
        return pc.if_else(pc.is_finite(wide), wide, None).cast(pa.string())
    if pa.types.is_duration(kind):
        return column.cast(pa.int64()).cast(pa.string())
    if pa.types.is_timestamp(kind) and kind.tz is not None:  # which this machine need not know
        return column.cast(pa.timestamp(kind.unit, "UTC")).cast(pa.string())
    if pa.types.is_nested(kind):
        texts = [None if value is None else _json(value) for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    return column.cast(pa.string())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def is_list(kind: pa.DataType) -> bool:
    """Tells whether a type is one of lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_string(kind: pa.DataType) -> bool:
    """Tells whether a type is one of strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Tells whether a type is one of bytes."""
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in kinds)
