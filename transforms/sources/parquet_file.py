"""A parquet file as a file of rows: its columns as strings, and pictures whose bytes are in it.

A column of pictures holds their URIs as strings, or their bytes, alone or as `bytes` of a struct, as data sets of
Hugging Face have them. Bytes are hashed here, for the version of a row, and read again where they are embedded.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from transforms.errors import UsageError
from transforms.shards import ready_files
from transforms.sources import parquet_values
from transforms.sources.row_files import SEPARATOR, Rows, hashes
from transforms.sources.words import split_keywords, trimmed_keywords

ROWS_AT_ONCE: Final = 1024
"""Rows read at once, at most; fewer where they are large."""

_BYTES_AT_ONCE: Final = 16 << 20

_FLAG: Final = "--parquet"
_BYTES, _PATH = "bytes", "path"


@dataclass(frozen=True)
class ParquetRows:
    """One parquet file.

    Attributes:
        uri: of the file.
        image: the column of pictures, if any.
        image_bytes: whether that holds them, and not their URIs.
        texts: columns that must be texts or numbers.
        keywords: the column of keywords: lists of strings, or strings that are split.
        separator: what they are split on.

    Cost: every page of the columns that are shown, and of the pictures in it, is read once; what is held of them is
    about 16 MiB, or a row, but for columns whose pages are larger or whose dictionaries stand for more.
    """

    uri: str
    image: str | None = None
    image_bytes: bool = False
    texts: tuple[str, ...] = ()
    keywords: str | None = None
    separator: str = ","

    def header(self, wanted: Iterable[str]) -> list[str]:
        """Returns the names of all columns.

        Raises:
            UsageError: also, a column that was named is of a type that is no text or picture.
        """
        with ready_files.opened(self.uri) as file:
            self._check(file.schema_arrow)
            return list(file.schema_arrow.names)

    def holds_pictures(self) -> bool:
        """Tells whether the column of pictures holds bytes."""
        with ready_files.opened(self.uri) as file:
            schema = file.schema_arrow
            return self.image in schema.names and _bytes_of(schema.field(self.image)) is not None

    def rows(self) -> Iterator[Rows]:
        """Reads the rows, row group by row group; `lines` are their numbers, from 1."""
        with ready_files.opened(self.uri) as file:
            schema = file.schema_arrow
            self._check(schema)
            field = schema.field(self.image) if self.image_bytes and self.image in schema.names else None
            picture = None if field is None else _bytes_of(field)
            names = {one.name for one in schema if not parquet_values.is_vector(one)}
            leaves = parquet_values.leaves(file, names)
            start = 0
            for group in range(file.num_row_groups):
                wanted = leaves if picture is None else [*leaves, picture]
                for batch in self._batches(file, group, wanted):
                    yield self._rows(batch, start, picture)
                    start += len(batch)

    def _batches(self, file: pq.ParquetFile, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        metadata = file.metadata.row_group(group)
        row_bytes = metadata.total_byte_size // max(1, metadata.num_rows)
        at_once = max(1, min(ROWS_AT_ONCE, _BYTES_AT_ONCE // max(1, row_bytes)))
        yield from file.iter_batches(batch_size=at_once, row_groups=[group], columns=list(columns), use_threads=False)

    def _rows(self, batch: pa.RecordBatch, start: int, picture: str | None) -> Rows:
        columns: dict[str, pa.Array] = {}
        digests, keywords, inside = None, None, None
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values = column
            if picture is not None and name == self.image:
                is_struct = pa.types.is_struct(column.type)
                data = pc.struct_field(column, _BYTES) if is_struct else column
                digests = pa.array([_digest(one) for one in data], pa.string())
                inside = pc.if_else(pc.is_valid(digests), picture, pa.nulls(len(batch), pa.string()))
                if not is_struct or column.type.get_field_index(_PATH) < 0:
                    continue
                values = pc.struct_field(column, _PATH)
            if name == self.keywords and parquet_values.is_list(column.type):
                lists = pc.fill_null(column.cast(pa.list_(pa.string())), pa.scalar([], pa.list_(pa.string())))
                keywords = trimmed_keywords(lists)
            columns[name] = parquet_values.cells(values)
        if self.keywords in columns and keywords is None:
            keywords = split_keywords(columns[self.keywords], self.separator)
        content = _content(columns, digests, len(batch))
        lines = range(start + 1, start + len(batch) + 1)
        cells = list(columns.values())
        return Rows(list(columns), cells, content, lines, keywords=keywords, inside=inside, pictures=digests)

    def _check(self, schema: pa.Schema) -> None:
        ready_files.check_names(self.uri, schema)
        for name in (self.image, *self.texts, self.keywords):
            if name is None or name not in schema.names:
                continue  # whoever asks for it knows what is there
            kind = schema.field(name).type
            inner = kind.value_type if pa.types.is_dictionary(kind) else kind
            if name == self.image:
                is_right = (_bytes_of(schema.field(name)) is not None) == self.image_bytes
                is_right = is_right and (self.image_bytes or parquet_values.is_string(inner))
                needed = "the bytes of pictures, as in the first file" if self.image_bytes else "strings or bytes"
            elif name == self.keywords and parquet_values.is_list(kind):
                is_right, needed = parquet_values.is_string(kind.value_type), "strings, or lists of them"
            else:
                is_right = not pa.types.is_nested(inner) and not parquet_values.is_binary(inner)
                needed = "strings, or numbers"
            if not is_right:
                raise UsageError(f"{_FLAG} {self.uri}: column {name} is {kind}, and must hold {needed}")


def _bytes_of(field: pa.Field) -> str | None:
    """Returns the path of the bytes that a column of pictures has; None: it has none."""
    kind = field.type
    if parquet_values.is_binary(kind):
        return str(field.name)
    if pa.types.is_struct(kind) and (place := kind.get_field_index(_BYTES)) >= 0:
        return f"{field.name}.{_BYTES}" if parquet_values.is_binary(kind.field(place).type) else None
    return None


def _digest(value: pa.Scalar) -> str | None:
    buffer = value.as_buffer() if value.is_valid else None
    return None if buffer is None or buffer.size == 0 else xxhash.xxh3_128_hexdigest(buffer)


def _content(columns: dict[str, pa.Array], digests: pa.Array | None, count: int) -> pa.Array:
    """Hashes of rows: of their cells by name, and of their pictures; a column without a value changes none."""
    parts = [pc.binary_join_element_wise("", name, columns[name], SEPARATOR) for name in sorted(columns)]
    if digests is not None:
        parts.append(pc.binary_join_element_wise("", "", digests, SEPARATOR))
    if not parts:
        return hashes([""] * count)
    joined = pc.binary_join_element_wise(*parts, "", null_handling="replace")
    return hashes(joined.to_pylist())
