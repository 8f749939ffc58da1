"""Answers the queries of a part, as one worker does it: their vectors, the search, and the file of the results."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.batch.plan import QUERY
from transforms.batch.request import Batch, BatchRequest, Part, PartMarker, Unanswered, seal_of
from transforms.errors import PixdexError, UsageError
from transforms.queries.answer import prepared
from transforms.queries.encode import QueryEncoder
from transforms.search.hits import Found
from transforms.search.searcher import Searcher
from transforms.search.trace import Trace
from transforms.shards import ready_vectors
from transforms.storage import parquet_files
from transforms.storage.arrow_numbers import array_of
from transforms.storage.store import Store

KEY: Final = "key"

_NO_TEXT: Final = "it is empty (or a row of a CSV with another number of cells than the header)"

_NO_DIRECTION: Final = "its vector is not finite, too long, or has no direction"

_Why = dict[int, str]
"""Why queries have no vector, by their places in a part."""


@dataclass(frozen=True)
class _Opened:
    """A generation and its encoder, which all parts of a worker share."""

    asked: tuple[str, str, str, str | None, bool]
    searcher: Searcher
    encoder: QueryEncoder


_open: _Opened | None = None
_lock = threading.Lock()


def answer_part(batch: Batch, number: int) -> None:
    """Answers a part and commits it, unless that is done.

    Cost: the vectors of a part are in memory, some 64 bytes for each row that is looked at, up to 4 Mi of them at a
    time, and the results. The generation is opened once a process, of an object store once a machine.

    Raises:
        UsageError: the root cannot be asked so.
        PixdexError: it is damaged or was made anew, or the queries have changed since they were planned.
    """
    if batch.marker(number) is not None:
        return
    request, part = batch.request, batch.plan.parts[number]
    with _threads(batch.threads):
        opened = _opened(batch, request)
        vectors, places, why = _vectors(batch, opened, part)
        made, left, cannot = _prepared(opened, vectors, request)
        why |= {int(places[place]): reason for place, reason in cannot.items()}
        found = opened.searcher.nearest(made, request.wanted)
        table = _table(opened.searcher, request, found, part.first + places[left])
    with batch.work.scratch() as scratch:
        file = scratch / "results.parquet"
        pq.write_table(table, file, compression="lz4", write_page_checksum=True)  # it is read once, and soon
        reference = batch.work.upload(file, "results", f"part-{number:08}")
    batch.commit_part(number, PartMarker(batch.part_digest(number), _unanswered(part, why), reference))


def _prepared(
    opened: _Opened, vectors: NDArray[np.float32], request: BatchRequest
) -> tuple[NDArray[np.float32], NDArray[np.int64], "_Why"]:
    """What is searched with, the places of what is left of the vectors, and why others cannot be searched with."""
    if not (request.wanted.minus or request.wanted.expand):
        return vectors, np.arange(len(vectors)), {}

    def prepare(some: NDArray[np.float32]) -> NDArray[np.float32]:
        return prepared(opened.searcher, opened.encoder, some, request.wanted, Trace(is_full=False))

    try:
        return prepare(vectors), np.arange(len(vectors)), {}
    except UsageError as error:
        if len(vectors) < 2:
            return vectors[:0], np.empty(0, np.int64), dict.fromkeys(range(len(vectors)), str(error))
    made: list[NDArray[np.float32]] = [vectors[:0]]
    why: _Why = {}
    for place in range(len(vectors)):  # one of them cannot be, which cancels out
        try:
            made.append(prepare(vectors[place : place + 1]))
        except UsageError as error:
            why[place] = str(error)
    return np.concatenate(made), np.array([place for place in range(len(vectors)) if place not in why], np.int64), why


def _table(searcher: Searcher, request: BatchRequest, found: Found, numbers: NDArray[np.int64]) -> pa.Table:
    """The results as rows; `numbers` are those of the queries that were answered."""
    known = searcher.table_of(found.ids, (KEY, *(name for name in request.columns if name != KEY)))
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "query": array_of(numbers[found.queries]),
        "rank": array_of(found.ranks.astype(np.int32)),
        "score": array_of(found.scores),
        "id": array_of(found.ids),
        KEY: known[KEY].cast(pa.string()),
    }
    others = {name: known[name] for name in request.columns if name not in columns}
    return pa.table(columns | others)


def _vectors(batch: Batch, opened: _Opened, part: Part) -> tuple[NDArray[np.float32], NDArray[np.int64], "_Why"]:
    """The vectors of a part, float32 `(n, d)`, the places of their queries in it, and why others have none."""
    generation = opened.searcher.generation
    dim = generation.trained.dim
    if part.vectors is not None:
        pieces = [np.asarray(piece, np.float32) for piece in ready_vectors.pieces(part.vectors, dim)]
        vectors = np.concatenate([np.empty((0, dim), np.float32), *pieces])
        _, sound = ready_vectors.soundness(vectors, normalize=generation.request.encoder.normalize)
        why = dict.fromkeys(np.flatnonzero(~sound).tolist(), _NO_DIRECTION)
        return vectors[sound], np.flatnonzero(sound), why
    assert part.texts is not None
    texts: list[str | None] = parquet_files.read(batch.work, part.texts)[QUERY].to_pylist()
    why = {place: _NO_TEXT for place, text in enumerate(texts) if text is None or not text.strip()}
    there = [place for place in range(len(texts)) if place not in why]
    asked = [text for text in texts if text is not None and text.strip()]
    if batch.request.queries.are_pictures:
        vectors, failures = opened.encoder.each_picture(asked)
        why |= {there[place]: f"{asked[place]}: {one.type}, {one.message}" for place, one in failures.items()}
        there = [place for place in there if place not in why]
    else:
        vectors = opened.encoder.texts(asked) if asked else np.empty((0, dim), np.float32)
    _, sound = ready_vectors.soundness(vectors, normalize=generation.request.encoder.normalize)
    why |= {there[place]: _NO_DIRECTION for place in np.flatnonzero(~sound).tolist()}
    return vectors[sound], np.array(there, np.int64)[sound], why


def _opened(batch: Batch, request: BatchRequest) -> _Opened:
    global _open  # noqa: PLW0603 - one for a process, whose bundles come one after the other
    store, asked = Store.at(request.root), (request.root, request.seal, batch.device, batch.named, batch.trust_uris)
    with _lock:
        if _open is None or _open.asked != asked:
            if seal_of(store, request.generation) != request.seal:
                raise PixdexError(
                    f"{store.url} was made anew since the job was begun: remove {batch.work.url} and run the same "
                    "command again"
                )
            searcher = Searcher.open(store, request.generation, trust_uris=batch.trust_uris)
            encoder = QueryEncoder(searcher.generation.request, device=batch.device, named=batch.named)
            _open = _Opened(asked, searcher, encoder)
        return _open


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Has faiss use so many threads in this one."""
    before = faiss.omp_get_max_threads()
    if count is not None:
        faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _unanswered(part: Part, why: _Why) -> Unanswered | None:
    return Unanswered(len(why), part.first + min(why), why[min(why)]) if why else None
