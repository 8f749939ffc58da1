"""Canary queries: do searches still find in the trained index what they found when it was trained?

They are asked within a *universe*: the rows whose seeded hash of the id lies under a threshold, 16,384 or all where
there are fewer. What a search finds there depends on the lists probed and on the codes of these rows, and on no other
row; so an index of the universe alone, in memory, has the recall that the whole index has within it, at a cost that
does not grow with the collection. Rows that are added join the universe by the same hash; dead ones leave it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.generations.tombstones import Tombstones
from transforms.index.encode import Encoded, encode_batches
from transforms.index.exact import NO_ROW, dense, distances_of, nearest
from transforms.index.open_trained import OpenTrained
from transforms.index.scan import search_lists
from transforms.index.threads import each_with_one_thread
from transforms.index.training.figures import CANARY_NEIGHBOURS as NEAR
from transforms.index.training.figures import CANARY_QUERIES
from transforms.index.vector_transforms import behind_transforms
from transforms.records import FileReference, Metric
from transforms.shards.vectors import BATCH_ROWS, VectorBatch
from transforms.storage import layout, whole_files
from transforms.storage.store import Store

RECALL_AT: Final = 10


@dataclass(frozen=True)
class Canaries:
    """Queries, what they are asked in, and what they should find.

    Attributes:
        seed, share: which rows are in the universe, as `sampling.in_sample` takes them.
        nprobe: lists that a search probes.
        recall_trained: recall@10 when the index was trained, 0 to 1.
        queries: float16 or float32 `(q, d)`.
        query_ids: int64 `(q,)`, the rows that they are; a query does not count as its own neighbour.
        ids: int64 `(u,)` ascending, the universe.
        list_nos: int64 `(u,)`, and `codes` uint8 `(u, code_size)`: these rows in the index.
        near_ids: int64 `(q, 100)`, nearest first, -1 where there is none.
        near_distances: float32 `(q, 100)`, lower is nearer. Where there is no row, the distance up to which all rows
            of the universe are listed: infinity unless some that were too far have been left out.
    """

    seed: int
    share: float
    nprobe: int
    recall_trained: float
    queries: NDArray[Any]
    query_ids: NDArray[np.int64]
    ids: NDArray[np.int64]
    list_nos: NDArray[np.int64]
    codes: NDArray[np.uint8]
    near_ids: NDArray[np.int64]
    near_distances: NDArray[np.float32]


def make(
    opened: OpenTrained,
    universe: VectorBatch,
    asked: VectorBatch,
    metric: Metric,
    *,
    seed: int,
    share: float,
    nprobe: int,
    workers: int,
) -> Canaries:
    """Chooses queries and finds their neighbours in the universe.

    Args:
        opened: the trained index.
        universe: the rows with that hash.
        asked: rows that queries are taken from: the first thousand.
        metric: of the index.
        seed, share, nprobe: as in `Canaries`.
        workers: threads.

    Cost: 1,000 inner products of every row of the universe, and coding it.
    """
    queries = asked.vectors[:CANARY_QUERIES]
    empty = Canaries(
        seed=seed,
        share=share,
        nprobe=nprobe,
        recall_trained=0.0,
        queries=queries,
        query_ids=asked.ids[:CANARY_QUERIES],
        ids=np.empty(0, np.int64),
        list_nos=np.empty(0, np.int64),
        codes=np.empty((0, faiss.extract_index_ivf(opened.index).code_size), np.uint8),
        near_ids=np.full((len(queries), NEAR), NO_ROW),
        near_distances=np.full((len(queries), NEAR), np.inf, np.float32),
    )
    canaries = grown(empty, opened, [universe], Tombstones(), metric, workers)
    return replace(canaries, recall_trained=recall(canaries, opened) or 0.0)


def grown(
    canaries: Canaries,
    opened: OpenTrained,
    batches: Iterable[VectorBatch],
    dead: Tombstones,
    metric: Metric,
    workers: int,
) -> Canaries:
    """Lets rows join the universe, all of which must have its hash, and dead rows leave it.

    Neighbours stay exact, however many have died: a row that joins is listed only within the distance up to which all
    rows are. The result is the same however rows are cut into batches, and whatever the number of threads: each has
    batches of its own.

    Cost: an inner product of every query and new row, and coding these; every batch costs what a full one does.
    """
    some = [batch for batch in batches if len(batch.ids)]
    alive = dead.are_alive(canaries.ids)
    ids, lists, codes = [canaries.ids[alive]], [canaries.list_nos[alive]], [canaries.codes[alive]]
    gone = dead.are_dead(canaries.near_ids) | (canaries.near_ids == NO_ROW)
    near_ids = np.where(gone, NO_ROW, canaries.near_ids)
    distances = np.where(gone, np.float32(np.inf), canaries.near_distances)
    # Of rows that are farther than this, some were left out when there was no room for them.
    exact_to = canaries.near_distances[:, -1:]
    queries = canaries.queries.astype(np.float32)

    def look(batch: VectorBatch) -> tuple[VectorBatch, Encoded, NDArray[np.float32]]:
        encoded = encode_batches(opened.index, [batch], opened.assign)
        joining = distances_of(queries, batch.vectors, metric)
        joining[canaries.query_ids[:, None] == batch.ids] = np.inf
        return batch, encoded, joining

    with each_with_one_thread(workers) as pool:
        cut = list(_cut(some))
        for start in range(0, len(cut), workers):
            for batch, encoded, joining in pool.map(look, cut[start : start + workers]):
                ids.append(encoded.ids)
                lists.append(encoded.list_nos.astype(np.int64))
                codes.append(encoded.codes)
                # Behind the first rows few are near enough to be looked at.
                limit = np.minimum(exact_to, distances.max(axis=1, keepdims=True))
                if np.isinf(limit).any() and len(batch.ids) > NEAR:
                    limit = np.minimum(limit, np.partition(joining, NEAR - 1, axis=1)[:, NEAR - 1 : NEAR])
                some_ids, some_distances = dense(batch.ids, joining, joining <= limit)
                near_ids, distances = nearest(
                    np.concatenate([near_ids, some_ids], axis=1),
                    np.concatenate([distances, some_distances], axis=1),
                    NEAR,
                )
    order = np.argsort(np.concatenate(ids), kind="stable")
    near_ids, distances = nearest(near_ids, distances, NEAR)
    return replace(
        canaries,
        ids=np.concatenate(ids)[order],
        list_nos=np.concatenate(lists)[order],
        codes=np.concatenate(codes)[order],
        near_ids=near_ids,
        near_distances=np.where(near_ids == NO_ROW, exact_to, distances),
    )


def countable(canaries: Canaries) -> NDArray[np.int64]:
    """Returns the places of the queries that recall is taken of: those that have ten neighbours still."""
    return np.flatnonzero((canaries.near_ids[:, :RECALL_AT] != NO_ROW).all(axis=1))


def recall(canaries: Canaries, opened: OpenTrained) -> float | None:
    """Returns recall@10 of the queries within the universe, 0 to 1; None: no query has ten neighbours there.

    Memory: the codes of the universe once more. The lists of the opened index are changed meanwhile: one thread.
    """
    whole = countable(canaries)
    if not len(whole):
        return None
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(opened.index))  # what it has depends on the key
    lists = faiss.ArrayInvertedLists(inner.nlist, inner.code_size)
    order = np.argsort(canaries.list_nos, kind="stable")
    bounds = np.flatnonzero(np.diff(canaries.list_nos[order], prepend=-1, append=inner.nlist))
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = order[start:stop]
        ids, codes = np.ascontiguousarray(canaries.ids[rows]), np.ascontiguousarray(canaries.codes[rows])
        # The arrays have names that outlive the call: swig_ptr does not keep them alive.
        number = int(canaries.list_nos[rows[0]])
        lists.add_entries(number, len(rows), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    before, owned = inner.invlists, inner.own_invlists
    inner.own_invlists = False
    inner.replace_invlists(lists, False)
    levels = [opened.index, inner]
    counts = [level.ntotal for level in levels]
    try:
        for level in levels:
            level.ntotal = len(canaries.ids)
        queries = np.ascontiguousarray(canaries.queries[whole].astype(np.float32))
        _, neighbours = search_lists(opened.index, queries, RECALL_AT + 1, canaries.nprobe)
    finally:
        for level, count in zip(levels, counts, strict=True):
            level.ntotal = count
        inner.replace_invlists(before, False)
        inner.own_invlists = owned
    hits = 0
    for place, row in zip(whole.tolist(), neighbours, strict=True):
        others = row[row != canaries.query_ids[place]][:RECALL_AT]
        hits += int(np.isin(others, canaries.near_ids[place, :RECALL_AT]).sum())
    return hits / (RECALL_AT * len(whole))


def residual(opened: OpenTrained, vectors: NDArray[np.float32]) -> float:
    """Returns the mean squared error of some vectors, float32 `(n, d)`, after coding, over their mean squared norm.

    Both are taken behind the transforms, as training takes them of held-out rows; 0 of vectors without a norm.
    """
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(opened.index))  # what it has depends on the key
    ids = np.arange(len(vectors))
    encoded = encode_batches(opened.index, _cut([VectorBatch(ids, vectors)]), opened.assign)
    known = behind_transforms(opened.index, vectors)
    lists, codes = np.ascontiguousarray(encoded.list_nos.astype(np.int64)), np.ascontiguousarray(encoded.codes)
    decoded = np.empty_like(known)
    inner.decode_vectors(len(known), faiss.swig_ptr(codes), faiss.swig_ptr(lists), faiss.swig_ptr(decoded))
    norm = float(np.einsum("ij,ij->", known, known, dtype=np.float64))
    error = known - decoded
    return float(np.einsum("ij,ij->", error, error, dtype=np.float64)) / norm if norm else 0.0


def lists_of(opened: OpenTrained, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the list of every vector, int64 `(n,)`."""
    return opened.assign(behind_transforms(opened.index, vectors))


def save(store: Store, fingerprint: str, canaries: Canaries) -> FileReference:
    """Writes canaries beside the trained index; equal ones have one name."""
    half = canaries.queries.astype(np.float16)
    exact = bool((half.astype(np.float32) == canaries.queries.astype(np.float32)).all())
    tensors = {
        "seed": np.array([canaries.seed], np.int64),
        "share": np.array([canaries.share, canaries.recall_trained], np.float64),
        "nprobe": np.array([canaries.nprobe], np.int64),
        "queries": half if exact else canaries.queries.astype(np.float32),
        "query_ids": canaries.query_ids,
        "ids": canaries.ids,
        "list_nos": canaries.list_nos,
        "codes": canaries.codes,
        "near_ids": canaries.near_ids,
        "near_distances": canaries.near_distances,
    }
    return whole_files.write_tensors(store, layout.trained_folder(fingerprint), "canaries", tensors)


def load(store: Store, file: FileReference) -> Canaries:
    """Reads canaries back.

    Raises:
        PixdexError: the file is missing, or is another than the reference speaks of.
    """
    try:
        tensors = whole_files.read_tensors(store, file)
        share, recall_trained = tensors.pop("share").tolist()
        seed, nprobe = int(tensors.pop("seed")[0]), int(tensors.pop("nprobe")[0])
        return Canaries(seed=seed, share=share, nprobe=nprobe, recall_trained=recall_trained, **tensors)
    except (PixdexError, LookupError, TypeError, ValueError) as error:
        why = error if isinstance(error, PixdexError) else f"{store.url}/{file.path} holds no canaries ({error})"
        raise PixdexError(f"{why}; or train anew with pixdex reindex --retrain always") from error


def _cut(batches: Sequence[VectorBatch]) -> Iterable[VectorBatch]:
    """Cuts batches into those of the size in which rows are encoded."""
    for batch in batches:
        for start in range(0, len(batch.ids), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            yield VectorBatch(batch.ids[rows], batch.vectors[rows])
