"""Makes one shard of the rows of another root: each with its neighbours added, or few that stand for many."""

import time
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.derivation import RootPart
from transforms.errors import PixdexError
from transforms.generations import tables
from transforms.index.derived.augmented import NO_NEIGHBOUR, augmented, places_of
from transforms.index.derived.condensed import condensed
from transforms.index.threads import limited
from transforms.markers import ShardMarker
from transforms.records import MODALITIES, Partition
from transforms.runs.partitions import partition_digest
from transforms.runs.run import Run
from transforms.search.hits import Asked
from transforms.search.rules import ID, Rules
from transforms.shards import files
from transforms.shards.vectors import read_batches
from transforms.tasks.derive.cut import rows_of
from transforms.tasks.derive.metadata import metadata_of
from transforms.tasks.derive.origin import Origin

_KEYWORD: Final = MODALITIES.index("keyword")

_MOST: Final = float(np.finfo(np.float16).max)

_Rows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Ids int64 `(n,)` of rows of the other root, their kinds, and the vectors that they get, float32 `(n, d)`."""


def derive_shard(run: Run, partition: Partition, origin: Origin) -> ShardMarker:
    """Makes a shard and uploads it. Returns the marker, which is not yet committed.

    Memory: the vectors and the metadata of its rows; of `augment` a batch of 4,096 rows with their neighbours, of
    `condense` the vectors of a group of lists, three times.

    Raises:
        PixdexError: the other root is damaged, or has other rows than were planned with.
    """
    started = time.monotonic()
    settings = run.request.encoder
    work = augmented_rows if origin.derivation.operation == "augment" else condensed_rows
    with limited(origin.threads):
        parts = [rows for part in partition.root_parts for rows in work(origin, part)]
    empty: _Rows = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, settings.dim), np.float32))
    ids, kinds, vectors = (np.concatenate(each) for each in zip(empty, *parts, strict=True))
    counts = np.bincount(kinds, minlength=len(MODALITIES)).tolist()
    embeddings, items = None, 0
    if len(ids):
        metadata = metadata_of(origin, ids)
        order, keys = _order(ids, kinds, metadata["key"])
        items = int(keys.max()) + 1
        metadata = _numbered(metadata.take(pa.array(order)), kinds[order], keys[order])
        stored = vectors[order]
        if settings.precision == "float16":
            stored = np.clip(stored, -_MOST, _MOST).astype(np.float16).astype(np.float32)
        embeddings = files.write_embeddings(run.store, partition.shard, metadata, stored)
    return ShardMarker(
        shard=partition.shard,
        block=partition.block,
        digest=partition_digest(run.plan, partition),
        items=items,
        rejected=0,
        rows=len(ids),
        images=counts[0],
        texts=counts[1],
        keywords=counts[2],
        embeddings=embeddings,
        rejects=None,
        seconds=round(time.monotonic() - started, 3),
    )


def augmented_rows(origin: Origin, part: RootPart) -> Iterator[_Rows]:
    """Yields the rows of a shard, some at a time, with the vectors that they get (`index.derived.augmented`).

    Neighbours are what a search of the root finds among rows of the same kind, at its usual settings or with the
    `nprobe` that is asked for; their vectors are those that it stores.
    """
    (shard,) = (one for one in tables.shards_of(origin.store, origin.generation) if one.shard == part.shard)
    encoder = origin.generation.request.encoder
    for batch in read_batches(origin.store, shard, encoder, lambda ids: origin.kinds(ids) >= 0):
        kinds = origin.kinds(batch.ids)
        made = batch.vectors.copy()
        for kind in np.unique(kinds).tolist():
            mine = np.flatnonzero(kinds == kind)
            made[mine] = _augmented(origin, batch.ids[mine], batch.vectors[mine], kind)
        yield batch.ids, kinds, made


def _augmented(origin: Origin, ids: NDArray[np.int64], vectors: NDArray[np.float32], kind: int) -> NDArray[np.float32]:
    derivation, searcher, modality = origin.derivation, origin.searcher, MODALITIES[kind]
    if not derivation.neighbours:
        return vectors
    # Rows are wanted, where a search shows each item once: keywords of one item are each other's neighbours, too.
    asked = Asked(derivation.neighbours + 1, derivation.nprobe, modality, rules=Rules(group_by=ID))
    found = searcher.nearest(vectors, asked)
    near = places_of(found.counts, found.ids, ids, derivation.neighbours)
    rows, places = np.unique(near[near != NO_NEIGHBOUR], return_inverse=True)
    if not len(rows):
        return vectors
    near[near != NO_NEIGHBOUR] = places
    return augmented(vectors, searcher.stored.all(rows), near, derivation.alpha)


def condensed_rows(origin: Origin, part: RootPart) -> Iterator[_Rows]:
    """Yields the rows that stand for those of a group of lists, each kind apart (`index.derived.condensed`).

    Raises:
        PixdexError: the lists have other rows than were planned with.
    """
    ids, kinds = rows_of(origin, part)
    request = origin.generation.request
    spherical = origin.generation.trained.metric == "ip" and request.encoder.normalize
    for kind, (there, wanted) in enumerate(zip(part.rows, part.wanted, strict=True)):
        mine = ids[kinds == kind]
        if len(mine) != there:
            raise PixdexError(
                f"{origin.store.url}: lists {part.first_list} to {part.stop_list - 1} have {len(mine)} rows that are "
                f"{MODALITIES[kind]}s, and had {there} when this run was planned: pixdex verify says what is damaged"
            )
        for some, share in _apart(origin, mine, kind, wanted):
            vectors = origin.searcher.stored.all(some)
            centres, places = condensed(vectors, share, spherical=spherical, seed=origin.seed)
            yield some[places], np.full(share, kind, np.int64), centres


def _apart(origin: Origin, ids: NDArray[np.int64], kind: int, wanted: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Rows that are condensed together, and how many of them are wanted: each value of a column in its share.

    Shares are rounded up or down at random, so that over all groups a value has its share on average, however rare it
    is: systematic sampling (Madow 1949), with values in a random order and one random start for all of them.
    """
    by = origin.derivation.by
    if not wanted or by is None:
        yield from [(ids, wanted)] if wanted else []
        return
    values = origin.searcher.table_of(ids, [by])[by].to_pylist()
    # A value is what it is written as, and nothing is another one than an empty text.
    texts = ["" if value is None else f"={value}" for value in values]
    _, numbers, counts = np.unique(texts, return_inverse=True, return_counts=True)
    rng = np.random.default_rng([origin.seed, kind, int(ids[0])])
    order = rng.permutation(len(counts))
    ends = np.floor(np.cumsum(counts[order]) * (wanted / len(ids)) + rng.random()).astype(np.int64)
    ends[-1] = wanted
    for number, share in zip(order.tolist(), np.diff(ends, prepend=0).tolist(), strict=True):
        if share:
            yield ids[numbers == number], share


def _order(
    ids: NDArray[np.int64], kinds: NDArray[np.int64], keys: pa.ChunkedArray
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of rows in a shard (pictures, texts, keywords, an item's together), and numbers of their keys."""
    numbers = keys.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    group = np.where(kinds == _KEYWORD, numbers, 0)
    return np.lexsort((ids, group, kinds)), numbers


def _numbered(metadata: pa.Table, kinds: NDArray[np.int64], keys: NDArray[np.int64]) -> pa.Table:
    """Numbers the keywords of each item anew, of which some may be left out."""
    part = metadata["part"].to_numpy().copy()
    words = np.flatnonzero(kinds == _KEYWORD)
    if len(words):
        begins = np.flatnonzero(np.diff(keys[words], prepend=-1))
        part[words] = np.arange(len(words)) - np.repeat(begins, np.diff(begins, append=len(words)))
    column = pc.cast(pa.array(part), pa.int32())
    return metadata.set_column(metadata.column_names.index("part"), "part", column)
