"""Reads the file of one item's picture, wherever it is: at a place of its own, or in a file with others."""

import pyarrow as pa

from transforms.records import Request
from transforms.shards import ready_files
from transforms.storage import uris
from transforms.tasks.embed.inside import PicturesInside


def read(uri: str, request: Request, limit: int, *, most_before: int | None = None) -> bytes:
    """Returns the file of a picture that is not on the web; whoever asks has looked whether it may be read.

    Args:
        uri: as rows name it.
        request: of the root, whose sources tell the column of parquet that it is in.
        limit: bytes that it may have.
        most_before: bytes of pictures that may stand before it, about, as parquet compresses them; None: any number.

    Cost: of one in a column of parquet, the pages of its row group up to its row.

    Raises:
        PixdexError: its file of parquet is missing or damaged.
        ObjectTooLargeError: it has more bytes than allowed, or too many stand before it.
        Exception: it is missing, forbidden, or its storage failed.
    """
    column = column_of(uri, request)
    if column is None:
        return uris.read(uri, limit)
    if most_before is not None and (before := _before(uri, column)) > most_before:
        raise uris.ObjectTooLargeError(f"about {before} bytes stand before the picture, the limit is {most_before}")
    located = PicturesInside({uri: column}).locate(uri, limit)
    assert located is not None  # only one on the web is none
    return located.read(limit)


def column_of(uri: str, request: Request) -> str | None:
    """Returns the column of parquet that a picture is in; None: it is in none."""
    file, _, row = uri.rpartition("#")
    if not row.isdecimal():
        return None
    for source in request.sources:
        if source.kind == "parquet" and source.image_bytes and source.image_column is not None:
            if not uris.matches(source.pattern, file):
                continue
            with ready_files.opened(file) as opened:
                schema = opened.schema_arrow
                if source.image_column in schema.names:
                    is_struct = pa.types.is_struct(schema.field(source.image_column).type)
                    return f"{source.image_column}.bytes" if is_struct else source.image_column
    return None


def _before(uri: str, column: str) -> int:
    """About how many bytes are read for a picture: those of its column up to its row, as if all were alike."""
    file, _, row = uri.rpartition("#")
    left = int(row)
    with ready_files.opened(file) as opened:
        for group in map(opened.metadata.row_group, range(opened.num_row_groups)):
            if left < group.num_rows:
                chunks = map(group.column, range(group.num_columns))
                size = sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema == column)
                return int(size * (left + 1) // group.num_rows)
            left -= group.num_rows
    return 0
