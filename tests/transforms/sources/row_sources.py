"""The same rows as a file of each format that a source of rows may have."""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.records import Source
from transforms.sources.table_rows import RowListing

Row = dict[str, str]

LISTED = "urls."
"""Before a format: a list of URLs is a file of it."""

FORMATS = (
    *("csv", "csv.gz", "csv.zst", "jsonl", "ndjson.gz", "jsonl.zst", "parquet", "tar"),
    *(LISTED + form for form in ("csv.zst", "ndjson", "parquet")),
)


def packed(content: bytes, name: str) -> bytes:
    """Compresses what a file of this name holds."""
    if name.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    if name.endswith(".zst"):
        out = pa.BufferOutputStream()
        with pa.CompressedOutputStream(out, "zstd") as stream:
            stream.write(content)
        return bytes(out.getvalue().to_pybytes())
    return content


def content_of(form: str, rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    """Returns the bytes of a file of some format with these rows."""
    form = form.removeprefix(LISTED)
    if form == "parquet":
        out = io.BytesIO()
        table = pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in columns})
        pq.write_table(table, out, row_group_size=3)
        return out.getvalue()
    if form == "tar":
        return tar_of({f"{number:04}.json": _object(row, columns) for number, row in enumerate(rows)})
    if "json" in form:
        return packed(b"".join(_object(row, columns) + b"\n" for row in rows), form)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *([row.get(name, "") for name in columns] for row in rows)])
    return packed(text.getvalue().encode(), form)


def _object(row: Row, columns: Sequence[str]) -> bytes:
    return json.dumps({name: row[name] for name in columns if name in row}, ensure_ascii=False).encode()


def tar_of(members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Returns an archive of some files, by their names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def source_of(form: str, pattern: object, **columns: Any) -> Source:
    kind = "tars" if form == "tar" else form if form == "parquet" else "jsonl" if "json" in form else "csv"
    if form.startswith(LISTED):
        kind = "urls"
    location = str(pattern) if "://" in str(pattern) else f"file://{pattern}"
    return Source(kind, location, image_bytes=form == "tar", **columns)  # type: ignore[arg-type]  # of the names above


def items_of(source: Source) -> list[dict[str, Any]]:
    """Returns all items of a source, file by file."""
    listing = RowListing(source)
    return [row for name in listing.containers() for batch in listing.batches(name) for row in batch.to_pylist()]
