"""Exact scores of a shortlist: the vectors of its rows are read, from the refine store or from ready `.npy` files."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.index.kept_threads import each_alone
from transforms.ready_range import VectorRange
from transforms.records import ROWS_PER_SHARD, FileReference, Metric, split_ids
from transforms.search.ranking import NO_ROW
from transforms.shards import files, ready_vectors
from transforms.shards.ready_vectors import Vectors
from transforms.shards.stored_vectors import VectorFile, opened_vectors
from transforms.storage.store import Store, damaged

_QUERIES_AT_ONCE: Final = 64

SHORTLIST: Final = 100
"""Rows of a query that are ranked by exact scores, unless whoever asks says otherwise."""


_RowsOf = Callable[[NDArray[np.int64]], Vectors]
"""Returns rows of a file of ready embeddings, by their numbers in it, as they are stored there."""

_Place = FileReference | VectorRange
"""A file of the store, or an `.npy` file of ready embeddings, whose rows its shards say."""


_OF_BYTES: Final = ".sq8"
"""Ends the name of a file of vectors that are a byte a component."""

_log = logging.getLogger(__name__)


class ReadyFileError(PixdexError):
    """A file of ready embeddings cannot be read, which is not pixdex's own."""


class StoredVectors:
    """The vectors of a generation, by the ids of their rows. Threads may share it.

    Files are opened when a row of them is first asked for: of a folder they are mapped, of an object store ranges are
    read, 32 at a time.
    """

    def __init__(
        self, store: Store, generation: Generation, shards: Mapping[int, dict[str, Any]], *, check: bool = False
    ) -> None:
        """Knows where they are; `shards` are the rows of the table of shards. With `check`, files are verified first.

        Raises:
            PixdexError: the table of blocks is damaged.
            UsageError: ready embeddings are not where the sources of the generation are.
        """
        self._store, self._dim, self._check = store, generation.trained.dim, check
        self._normalize = generation.request.encoder.normalize
        self._shards = shards
        self._numbers = np.array(sorted(shards), np.int64)
        self._places: list[_Place] = []
        # Of each shard where its pictures are, and its texts: of all but pairs of ready embeddings it is one file.
        self._owners = np.full((2, len(self._numbers)), -1, np.int64)
        self._first_rows = np.zeros(len(self._numbers), np.int64)
        self._pairs = np.full(len(self._numbers), ROWS_PER_SHARD, np.int64)
        for block in tables.blocks_of(store, generation):
            if block.vectors is not None:
                first, last = np.searchsorted(self._numbers, (block.first_shard, block.last_shard + 1))
                self._owners[:, first:last] = len(self._places)
                self._places.append(block.vectors)
        owner_of, ends = dict[VectorRange, int](), dict[int, int]()
        for place, number in enumerate(self._numbers.tolist()):
            ready = tables.range_of(shards[number])
            if ready is None or ready.format != "npy":
                continue
            self._first_rows[place] = ready.start
            if ready.text_uri is not None:
                self._pairs[place] = ready.items
            for kind, part in enumerate(ready.of_each_file):
                file = replace(part, start=0, stop=0)
                owner = owner_of.setdefault(file, len(self._places) + len(owner_of))
                self._owners[kind:, place] = owner
                ends[owner] = max(ends.get(owner, 0), ready.stop)
        self._places += [replace(file, stop=ends[owner]) for file, owner in owner_of.items()]
        self._are_quick = bool(self._places) and bool((self._owners >= 0).all())
        self._open: dict[int, VectorFile | _RowsOf] = {}
        self._lock = threading.Lock()

    @property
    def are_quick(self) -> bool:
        """Tells whether all rows can be read one by one, and need not be taken out of shards.

        Of some alone exact scores would stand beside those of codes, which are smaller.
        """
        return self._are_quick

    @property
    def are_bytes(self) -> bool:
        """Tells whether some are stored as a byte a component."""
        return any(isinstance(place, FileReference) and place.path.endswith(_OF_BYTES) for place in self._places)

    def do_without(self, why: PixdexError) -> None:
        """Leaves files of ready embeddings alone from now on, of which one cannot be read any more."""
        if self._are_quick:
            _log.warning("results are ranked by their codes: %s", why)
        self._are_quick = False

    def find(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Returns the vectors of ids, float32 `(n, d)`, and which of them can be read one by one, bool `(n,)`.

        Raises:
            ReadyFileError: a file of ready embeddings is missing, or is not the one that was indexed.
            PixdexError: a file of the root is missing, damaged, or not the one that the generation names.
        """
        vectors = np.zeros((len(ids), self._dim), np.float32)
        held = np.zeros(len(ids), np.bool_)
        raw: list[tuple[NDArray[np.int64], Vectors]] = []
        if not len(self._numbers):
            return vectors, held
        shards, rows = split_ids(ids)
        nearest = np.minimum(np.searchsorted(self._numbers, shards), len(self._numbers) - 1)
        kinds, within = np.divmod(rows, self._pairs[nearest])
        owners = np.where(self._numbers[nearest] == shards, self._owners[np.minimum(kinds, 1), nearest], -1)
        for owner in np.unique(owners[owners >= 0]).tolist():
            mine = np.flatnonzero(owners == owner)
            try:
                opened = self._opened(owner)
                if isinstance(opened, VectorFile):
                    vectors[mine], held[mine] = opened.read(ids[mine])
                else:
                    raw.append((mine, opened(self._first_rows[nearest[mine]] + within[mine])))
            except PixdexError as error:
                if isinstance(self._places[owner], VectorRange):
                    raise ReadyFileError(str(error)) from error
                raise
        for kind in {stored.dtype for _, stored in raw}:
            some = [part for part in raw if part[1].dtype == kind]
            mine = np.concatenate([places for places, _ in some])
            vectors[mine] = self._as_indexed(np.concatenate([stored for _, stored in some]))
            held[mine] = True
        return vectors, held

    def all(self, ids: NDArray[np.int64], *, exact: bool = False) -> NDArray[np.float32]:
        """Returns the vectors of ids, float32 `(n, d)`, wherever they are; `exact` ones are not rounded to bytes.

        Cost: of rows that cannot be read one by one, or not so exactly, 4,096 rows of their shards each; of ready
        parquet files, all that stands before them in their range.

        Raises:
            PixdexError: a file is missing, damaged, or not the one that the generation names.
        """
        vectors, held = self.find(ids)
        if exact and self.are_bytes:
            held[:] = False
        shards, rows = split_ids(ids)
        for number in np.unique(shards[~held]).tolist():
            mine, shard = np.flatnonzero(~held & (shards == number)), self._shards[number]
            ready = tables.range_of(shard)
            if ready is None:
                vectors[mine] = files.read_rows(self._store, tables.file_of(shard), rows[mine])
            else:
                vectors[mine] = self._as_indexed(ready_vectors.opened_rows(ready, self._dim)(rows[mine]))
        return vectors

    def remembered(self, *, unit: bool) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        """Returns what does as `all`, and reads each row once; with `unit` vectors are made 1 long anew.

        As they are stored, vectors of a root that normalises are about 1 long.
        """
        known: dict[int, NDArray[np.float32]] = {}

        def vectors_of(ids: NDArray[np.int64]) -> NDArray[np.float32]:
            new = np.array([row for row in ids.tolist() if row not in known], np.int64)
            if len(new):
                vectors = self.all(new)
                if unit:
                    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
                known.update(zip(new.tolist(), vectors, strict=True))
            return np.stack([known[row] for row in ids.tolist()])

        return vectors_of

    def _as_indexed(self, stored: Vectors) -> NDArray[np.float32]:
        vectors = ready_vectors.as_indexed(stored, normalize=self._normalize)
        vectors[~ready_vectors.soundness(stored, normalize=False)[0]] = np.nan  # of rejected rows
        return vectors

    def _opened(self, owner: int) -> VectorFile | _RowsOf:
        with self._lock:
            if owner not in self._open:
                place = self._places[owner]
                if isinstance(place, FileReference):
                    self._open[owner] = _opened(self._store, place, self._dim, check=self._check)
                else:
                    self._open[owner] = ready_vectors.opened_rows(place, self._dim)
            return self._open[owner]


def rescored(
    stored: StoredVectors,
    metric: Metric,
    queries: NDArray[np.float32],
    ids: NDArray[np.int64],
    distances: NDArray[np.float32],
    wanted: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Replaces the distances of rows by exact ones, and orders them anew, equal ones by id.

    Args:
        stored: where the vectors are.
        metric: what a distance is; of `ip` the negative product.
        queries: float32 `(q, d)`.
        ids, distances: int64 and float32 `(q, n)`, what a scan found.
        wanted: bool `(q, n)`: rows whose vectors are to be read; the others keep their distance.

    Returns:
        Distances, ids, and whether each is exact, `(q, n)` each; rows that are none come last.

    Cost: of 64 queries each vector is read once, and kept, however many of them found it; n · d multiplications a
    query.
    """
    distances = distances.copy()
    exact = np.zeros(ids.shape, np.bool_)

    def rescore(start: int) -> None:
        part = slice(start, start + _QUERIES_AT_ONCE)
        rows, places = np.unique(ids[part][wanted[part]], return_inverse=True)
        vectors, held = stored.find(rows)
        place_of = np.full(ids[part].shape, -1, np.int64)
        place_of[wanted[part]] = places
        for number, mine in enumerate(place_of, start):
            there = np.flatnonzero(mine >= 0)
            there = there[held[mine[there]]]
            distances[number, there] = _distances(metric, queries[number], vectors[mine[there]])
            exact[number, there] = True

    starts = range(0, len(queries), _QUERIES_AT_ONCE)
    threads = min(faiss.omp_get_max_threads(), len(starts))
    list(map(rescore, starts) if threads <= 1 else each_alone(threads).map(rescore, starts))
    order = np.lexsort((ids, distances, ids == NO_ROW), axis=1)
    return tuple(np.take_along_axis(part, order, axis=1) for part in (distances, ids, exact))  # type: ignore[return-value]


def _distances(metric: Metric, query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Equal rows have equal distances, wherever they stand: einsum sums each row by itself, as BLAS need not."""
    distances: NDArray[np.float32]
    if metric == "ip":
        distances = -np.einsum("nd,d->n", vectors, query)
        return distances
    difference = vectors - query
    distances = np.abs(difference).sum(axis=1) if metric == "l1" else np.einsum("nd,nd->n", difference, difference)
    return distances


def _opened(store: Store, reference: FileReference, dim: int, *, check: bool) -> VectorFile:
    file = opened_vectors(store, reference)
    if file.extent.dim != dim:
        raise damaged(store, reference.path, f"its vectors have {file.extent.dim} components, the index has {dim}")
    if check:
        file.verify()
    return file
