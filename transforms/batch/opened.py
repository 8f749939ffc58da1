"""What a worker has open while it answers parts: the generation, and its encoder; and how many threads it takes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss

from transforms.batch.request import Batch, seal_of
from transforms.errors import PixdexError
from transforms.generations.published import open_generation
from transforms.queries.encode import QueryEncoder
from transforms.search.searcher import Searcher
from transforms.search.slices import Whole
from transforms.storage.store import Store


@dataclass(frozen=True)
class Opened:
    """A generation and its encoder, which all parts of a worker share; `whole` is its index, where it has slices."""

    asked: tuple[str, str, str, str | None, bool, bool]
    searcher: Searcher
    encoder: QueryEncoder
    whole: Whole | None


_open: Opened | None = None
_lock = threading.Lock()


def opened(batch: Batch) -> Opened:
    """Opens the generation that a batch asks, once a process; of an index in slices no lists yet.

    Raises:
        UsageError: it cannot be opened.
        PixdexError: it is damaged, or was made anew.
    """
    global _open  # noqa: PLW0603 - one for a process, whose bundles come one after the other
    request = batch.request
    store, sliced = Store.at(request.root), bool(batch.slices)
    asked = request.root, request.seal, batch.device, batch.named, batch.trust_uris, sliced
    with _lock:
        if _open is None or _open.asked != asked:
            if seal_of(store, request.generation) != request.seal:
                raise PixdexError(
                    f"{store.url} was made anew since the job was begun: remove {batch.work.url} and run the same "
                    "command again"
                )
            generation = open_generation(store, request.generation)
            whole = Whole(store, generation) if sliced else None
            searcher = Searcher(store, generation, trust_uris=batch.trust_uris, index=whole)
            encoder = QueryEncoder(searcher.generation.request, device=batch.device, named=batch.named)
            _open = Opened(asked, searcher, encoder, whole)
        return _open


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Has faiss use so many threads in this one."""
    before = faiss.omp_get_max_threads()
    if count is not None:
        faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
