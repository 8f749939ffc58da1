"""What is known of rows of ready embeddings: the columns beside an `.npy` file, or beside the vectors in a parquet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.ready_range import VectorRange, row_key
from transforms.records import ROW_BITS
from transforms.search.row_groups import Kept, rows_of_groups
from transforms.shards import ready_files
from transforms.sources import items, parquet_values
from transforms.storage import uris
from transforms.storage.arrow_numbers import array_of

CAPTION: Final = "caption"

_LAYOUT_BYTES: Final = 4096
"""About what is kept of a file beside its row groups."""

_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"


def read_metadata(
    shard: int, ready: VectorRange, rows: NDArray[np.int64], kept: Kept | None = None
) -> list[dict[str, Any]]:
    """Returns what is known of some rows of a range, as `shards.files` tells it of the rows of own shards.

    The key of a row is its file and its number in it, of pairs those of the picture; its URI is the picture that
    `uri_column` names, else that file. A column `caption` is its caption, a string or None whatever the
    column's type: lists are joined by commas. All other columns follow, but for bytes (also inside structs and lists)
    and vectors, in values that JSON can hold: dates and the like become strings, NaN becomes null. Folders of the path
    that are named `name=value` are columns, too, where the file has none of that name.

    Cost: one look at the file's version, and one read for the row groups that hold rows and are not kept. Of a CSV a
    copy is made first, once on a machine (`sources.ready.csv_copy`).

    Raises:
        PixdexError: the file is not there or cannot be read, or is not the one that was planned with.
    """
    kinds, of_items = np.divmod(rows, max(1, ready.items))
    table = _columns(ready, of_items + ready.start, kept or Kept(0))
    pictures = [_picture(ready, name) for name in table[ready.uri_column]] if ready.uri_column in table else None
    captions = [_caption(value) for value in table.pop(CAPTION)] if CAPTION in table else [None] * len(rows)
    names = items.column_names(list(table))
    ids, keys = ((shard << ROW_BITS) + rows).tolist(), [row_key(ready, row) for row in rows.tolist()]
    of_each = [part.modality for part in ready.of_each_file]
    modalities = [of_each[kind] for kind in kinds.tolist()]
    known: list[dict[str, Any]] = [
        {"id": number, "key": key, "uri": ready.uri, "modality": modality, "part": 0, "caption": caption}
        for number, key, modality, caption in zip(ids, keys, modalities, captions, strict=True)
    ]
    for row, picture in zip(known, pictures or (), strict=False):
        row["uri"] = picture or row["uri"]
    for name, values in zip(names, table.values(), strict=True):
        for row, value in zip(known, values, strict=True):
            row[name] = value
    return known


@dataclass(frozen=True)
class _Layout:
    """Rows of each row group of a parquet file, and the paths of the primitive columns that are shown."""

    sizes: NDArray[np.int64]
    leaves: Sequence[str]


def _columns(ready: VectorRange, rows: NDArray[np.int64], kept: Kept) -> dict[str, list[Any]]:
    """Returns the columns of some rows, counted in the file, in the order asked for."""
    folders = {name: [value] * len(rows) for name, value in folder_columns(ready.uri).items()}
    beside = _beside(ready)
    if beside is None or not len(rows):
        return folders
    name = beside, _check_version(ready, beside)
    file = _by_row(*name)
    layout = kept.get(name)
    if layout is None:
        layout = _layout(file, ready.column)
        kept.put(name, layout, _LAYOUT_BYTES)
    count = int(layout.sizes.sum())
    if rows.max() >= count:
        raise PixdexError(
            f"{beside} has {count} rows and should have row {rows.max()}: it belongs to {ready.uri}, put it back"
        )
    if not layout.leaves:
        return folders
    table = rows_of_groups(kept, name, layout.sizes, rows, partial(_read, file, layout.leaves))
    return folders | {name: parquet_values.plain(table[name]) for name in table.column_names}


def types_of(ready: VectorRange) -> dict[str, pa.DataType]:
    """Returns the source's own columns of a range as `read_metadata` names them, with the types of their values.

    Cost: the footer of the file is read; of a CSV a copy is made first.

    Raises:
        PixdexError: as `read_metadata`.
    """
    types: dict[str, pa.DataType] = dict.fromkeys(folder_columns(ready.uri), pa.string())
    if (beside := _beside(ready)) is not None:
        with ready_files.opened(_by_row(beside, _check_version(ready, beside))) as file:
            fields = _fields(file.schema_arrow, ready.column)
            there = {path.partition(".")[0] for path in parquet_values.leaves(file, {one.name for one in fields})}
            types |= {one.name: parquet_values.plain_type(one.type) for one in fields if one.name in there}
    types.pop(CAPTION, None)
    return dict(zip(items.column_names(list(types)), types.values(), strict=True))


def _by_row(beside: str, version: str) -> str:
    """Returns the URI of the parquet file that has the rows of a file: itself, or of a CSV its copy."""
    from transforms.sources.ready import csv_copy  # noqa: PLC0415 - few have one, and it imports all of pyarrow's functions

    return f"file://{csv_copy.parquet_of(beside, version)}" if csv_copy.is_csv(beside) else beside


def _layout(beside: str, vectors: str | None) -> _Layout:
    with ready_files.opened(beside) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        names = {field.name for field in _fields(file.schema_arrow, vectors)}
        return _Layout(np.array(sizes, np.int64), parquet_values.leaves(file, names))


def _fields(schema: pa.Schema, vectors: str | None) -> list[pa.Field]:
    return [field for field in schema if field.name != vectors and not parquet_values.is_vector(field)]


def _read(beside: str, leaves: Sequence[str], groups: Sequence[int]) -> list[pa.Table]:
    with ready_files.opened(beside) as file:
        return [file.read_row_group(group, columns=list(leaves)) for group in groups]


def keys_of(ready: VectorRange, rows: NDArray[np.int64]) -> pa.Array:
    """Returns the keys of rows of a range (`records.row_key`), many at once."""
    import pyarrow.compute as pc  # noqa: PLC0415 - a tenth of a second, which those who show few rows need not wait

    numbers = array_of(rows % max(1, ready.items) + ready.start)
    return pc.binary_join_element_wise(f"{ready.uri}#", numbers.cast(pa.string()), "")


def reads_a_file(ready: VectorRange, kept: Kept) -> bool:
    """Tells whether what is known of rows may have to be read."""
    beside = _beside(ready)
    if beside is None:
        return False
    layout = kept.get((beside, _planned(ready, beside)))
    return layout is None or bool(layout.leaves)


def _beside(ready: VectorRange) -> str | None:
    return ready.uri if ready.format == "parquet" else ready.metadata


def _planned(ready: VectorRange, beside: str) -> str | None:
    return ready.version if beside == ready.uri else ready.metadata_version


def folder_columns(uri: str) -> dict[str, str | None]:
    """Returns what the folders of a path say of all its rows, as Hive, Spark and Arrow name them.

    >>> folder_columns("file:///v/lang=ko/size=a%2Fb/part-0.parquet")
    {'lang': 'ko', 'size': 'a/b'}
    """
    pairs = [folder.partition("=") for folder in uri.split("/")[3:-1]]
    return {name: None if value == _NO_VALUE else unquote(value) for name, equals, value in pairs if name and equals}


def _check_version(ready: VectorRange, beside: str) -> str:
    """Returns the version of the file as it is now, which must be the one that was planned with."""
    planned = _planned(ready, beside)
    try:
        _, version = ready_files.stat(beside)
    except OSError as error:
        raise PixdexError(
            f"{beside} cannot be read ({error.strerror or error}): what stands beside ready embeddings is not copied, "
            "put it back"
        ) from error
    if planned not in (None, version):
        raise PixdexError(
            f"{beside} has changed ({version}, planned with {planned}): what stands beside ready embeddings is not "
            "copied, put it back, or build into a new root"
        )
    return version


def _picture(ready: VectorRange, name: Any) -> str | None:
    """Returns the URI of a picture as a column names it: absolute, or below the base; None: it names none."""
    if name in (None, ""):
        return None
    base, named = ready.image_base, str(name)
    if base is not None and ready.image_was is not None:
        named = _moved(named, ready.image_was)
    return uris.join(f"{base}/" if base is not None else _beside(ready) or ready.uri, named)


def _moved(name: str, was: str) -> str:
    """Returns a name below a folder as it is relative to it; another one as it is.

    >>> _moved("/content/catalog/a.png", "/content"), _moved("/contents/a.png", "/content")
    ('catalog/a.png', '/contents/a.png')
    """
    below = name.removeprefix(was.rstrip("/") + "/")
    return below.lstrip("/") if below != name else name


def _caption(value: Any) -> str | None:
    if isinstance(value, list):
        value = ", ".join(str(one) for one in value if one is not None) or None
    return None if value is None else str(value)
