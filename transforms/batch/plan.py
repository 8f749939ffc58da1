"""Cuts queries into parts: vectors where they lie, texts and URIs into files that a worker reads alone."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Final

import pyarrow as pa

from transforms.batch.request import Batch, BatchPlan, ListRange, Part, Queries, SlicePlan
from transforms.errors import PixdexError, UsageError
from transforms.generations.published import open_generation
from transforms.ready_range import VectorRange
from transforms.records import Source
from transforms.search.refine import SHORTLIST
from transforms.search.slices import slices_of
from transforms.shards import ready_files
from transforms.sources import csv_records, packed, table_rows
from transforms.storage import parquet_files, uris
from transforms.storage.store import Store

VECTORS_A_PART: Final = 8192
RESULTS_A_PART: Final = 4 << 20
"""Rows that are looked at for the queries of a part together, or results, where these are more."""

ENCODED_A_PART: Final = 1024
LEAST_PARTS: Final = 16
"""Of many queries, so that several workers have something to do; of fewer than 256 a part, fewer."""

_LEAST: Final = 256

QUERY: Final = "query"
"""The column of the texts, or URIs, of a part; null: what cannot be read."""


def looked_at(queries: Queries, dim: int) -> int | None:
    """Refuses queries that cannot be read; returns how many vectors there are, or None: texts are not counted yet.

    Raises:
        UsageError: naming what is wrong with the file.
    """
    if queries.kind == "npy":
        size, _ = _stat(queries.uri)
        head = ready_files.npy_head(queries.uri, size)
        _check_dimension(queries, head.dim, dim)
        return head.rows
    if queries.kind == "parquet":
        assert queries.column is not None
        _check_dimension(queries, ready_files.parquet_head(queries.uri, queries.column).dim, dim)
        with ready_files.opened(queries.uri) as file:
            return int(file.metadata.num_rows)
    if queries.kind == "csv":
        with _named():
            table_rows.check(_source(queries))
    return None


def version_of(uri: str) -> str:
    """Returns the version of a file of queries as it is now.

    Raises:
        UsageError: it is not there.
    """
    return _stat(uri)[1]


def plan(batch: Batch) -> BatchPlan:
    """Makes and commits the plan, or adopts the one that is there.

    Raises:
        UsageError: the file of queries cannot be read.
        PixdexError: it has changed since the job was begun.
    """
    _plan_slices(batch)
    if (there := batch.planned()) is not None:
        return there
    queries, wanted = batch.request.queries, batch.request.wanted
    if (now := version_of(queries.uri)) != queries.version:
        raise PixdexError(
            f"{queries.uri} has changed ({now}, begun with {queries.version}): put it back, or remove {batch.work.url}"
        )
    most = max(1, RESULTS_A_PART // max(wanted.k, SHORTLIST if wanted.shortlist is None else wanted.shortlist))
    if queries.are_vectors:
        parts = tuple(_ranges(queries, looked_at(queries, 0) or 0, most))
    else:
        parts = tuple(_written(batch, queries, min(ENCODED_A_PART, most)))
    return batch.commit_plan(BatchPlan(sum(part.count for part in parts), parts))


def _plan_slices(batch: Batch) -> None:
    if batch.slice_bytes is None or batch.work.exists(batch.slice_plan):
        return
    store = Store.at(batch.request.root)
    cut = slices_of(store, open_generation(store, batch.request.generation), batch.slice_bytes)
    batch.work.commit(batch.slice_plan, SlicePlan(tuple(ListRange(lists.start, lists.stop) for lists in cut)))


def _ranges(queries: Queries, count: int, most: int) -> Iterator[Part]:
    size = min(VECTORS_A_PART, most, max(_LEAST, -(-count // LEAST_PARTS)))
    for start in range(0, count, size):
        stop = min(start + size, count)
        place = VectorRange(
            queries.uri,
            "npy" if queries.kind == "npy" else "parquet",
            start,
            stop,
            queries.version,
            column=queries.column,
        )
        yield Part(start, stop - start, vectors=place)


def _written(batch: Batch, queries: Queries, most: int) -> Iterator[Part]:
    texts, first = texts_of(queries), 0
    while some := list(itertools.islice(texts, most)):
        with batch.work.scratch() as scratch:
            file = scratch / "queries.parquet"
            parquet_files.write(pa.table({QUERY: pa.array(some, pa.string())}), file)
            reference = batch.work.upload(file, "queries", f"part-{first:012}")
        yield Part(first, len(some), texts=reference)
        first += len(some)


def texts_of(queries: Queries) -> Iterator[str | None]:
    """Yields the texts, or URIs of pictures, of a file in order; None: a row that cannot be read.

    Raises:
        UsageError: the file cannot be read.
    """
    with _named(), packed.opened(queries.uri, "--csv") as stream:
        yield from _lines(stream, queries.uri) if queries.kind == "txt" else _cells(stream, queries)


def _lines(stream: IO[bytes], uri: str) -> Iterator[str | None]:
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UsageError(f"--queries {uri}, line {number}, is not UTF-8: write it in UTF-8") from error
        yield text


def _cells(stream: IO[bytes], queries: Queries) -> Iterator[str | None]:
    assert queries.column is not None
    dialect = csv_records.read_dialect(stream, queries.uri, [queries.column])
    place = csv_records.header_of(stream, queries.uri, dialect).index(queries.column)
    stream.seek(0)
    for batch in csv_records.batches(stream, queries.uri, dialect):
        cells: Sequence[str | None] = batch.columns[place].to_pylist() if batch.lines else ()
        odd = [(line, None) for line, _, _ in batch.odd]
        for _, cell in sorted([*zip(batch.lines, cells, strict=True), *odd], key=lambda one: one[0]):
            yield uris.join(queries.uri, cell.strip()) if queries.are_pictures and cell and cell.strip() else cell


@contextmanager
def _named() -> Iterator[None]:
    """Says which flag names a CSV that cannot be read."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error).replace("--csv", "--queries", 1)) from error


def _source(queries: Queries) -> Source:
    column = {"image_column" if queries.are_pictures else "text_column": queries.column}
    return Source("csv", queries.uri, **column)  # type: ignore[arg-type]  # of strings


def _stat(uri: str) -> tuple[int, str]:
    try:
        return ready_files.stat(uri)
    except (OSError, ValueError, ImportError) as error:  # the last two of a protocol that is not known here
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"--queries {uri} cannot be read ({why}): name a file that is there") from error


def _check_dimension(queries: Queries, has: int | None, dim: int) -> None:
    if dim and has not in (None, dim):
        raise UsageError(
            f"--queries {queries.uri} holds vectors of {has} components, this root takes {dim}: make them with the "
            "encoder that built it"
        )
