"""The file of all results: the parts one after the other, under the name of the output when it is whole."""

import json
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.batch.request import Batch, PartMarker
from transforms.errors import PixdexError
from transforms.search.metadata import joined
from transforms.storage import parquet_files
from transforms.storage.store import Store

SCHEMA: Final = pa.schema(
    [
        ("query", pa.int64()), ("rank", pa.int32()), ("score", pa.float32()), ("id", pa.int64()), ("key", pa.string()),
    ]
)  # fmt: skip

_KEY: Final = b"pixdex.batch_search"


@dataclass(frozen=True)
class Summary:
    """What a file of results says of itself.

    Attributes:
        request: the digest of what was asked.
        queries, results: how many.
        unanswered: queries without a vector.
        why: of the first of them, its number and the reason; None: all were answered.
    """

    request: str
    queries: int
    results: int
    unanswered: int = 0
    why: str | None = None


def summary_of(output: tuple[Store, str]) -> Summary | None:
    """Returns what an output says of itself; None: there is none, or it is none of pixdex's."""
    store, name = output
    if not store.exists(name):
        return None
    try:
        with store.open(name) as stream, pq.ParquetFile(stream) as file:
            data = (file.schema_arrow.metadata or {}).get(_KEY)
            return Summary(**json.loads(data)) if data else Summary("", 0, 0)
    except (pa.ArrowException, OSError, ValueError, TypeError):
        return Summary("", 0, 0)


def is_published(batch: Batch) -> bool:
    """Tells whether the output is there, of this very request: another launcher of it may have come to the end."""
    there = summary_of(batch.output)
    return there is not None and there.request == batch.digest


def publish(batch: Batch) -> None:
    """Joins the results of all parts and gives them the name of the output, unless they have it.

    Cost: every part is read and written once more, one after the other; memory is that of one.

    Raises:
        PixdexError: a part is not there, or the output is another.
    """
    store, name = batch.output
    if (there := summary_of((store, name))) is not None:
        if there.request != batch.request.digest:
            raise PixdexError(f"{store.full(name)} was made by something else meanwhile: choose another --output")
        return None
    markers = [_marker(batch, number) for number in range(len(batch.plan.parts))]
    schema, results = _schema(batch, markers)
    told = {_KEY: json.dumps(_summary(batch, markers, results).__dict__, sort_keys=True).encode()}
    with batch.work.scratch() as scratch:
        file = scratch / "results.parquet"
        with pq.ParquetWriter(file, schema.with_metadata(told), compression="zstd", write_page_checksum=True) as writer:
            for marker in markers:
                table = joined([schema.empty_table(), parquet_files.read(batch.work, marker.file)], schema.names)
                writer.write_table(table.replace_schema_metadata(told))
        if store.exists(name):
            return publish(batch)
        store.upload_as(file, name, "")
    return None


def _summary(batch: Batch, markers: list[PartMarker], results: int) -> Summary:
    wrong = [marker.unanswered for marker in markers if marker.unanswered is not None]
    return Summary(
        batch.request.digest,
        batch.plan.queries,
        results,
        sum(one.count for one in wrong),
        f"query {wrong[0].first}: {wrong[0].why}" if wrong else None,
    )


def _marker(batch: Batch, number: int) -> PartMarker:
    marker = batch.marker(number)
    if marker is None:
        raise PixdexError(f"{batch.work.url}: part {number} is gone: run the same command again")
    return marker


def _schema(batch: Batch, markers: list[PartMarker]) -> tuple[pa.Schema, int]:
    """The columns of all parts, of text where they differ in their types, and how many rows there are."""
    heads, rows = [], 0
    for marker in markers:
        with parquet_files.opened(batch.work, marker.file) as file:
            heads.append(file.schema_arrow.empty_table())
            rows += file.metadata.num_rows
    others = joined(heads, [name for name in batch.request.columns if name not in SCHEMA.names]).schema
    return pa.schema([*SCHEMA, *others]), rows
