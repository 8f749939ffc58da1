"""What changed in the sources since a generation: items to embed, and entries whose rows are dead. For a reindex.

Listed items and known entries meet by hash bucket, as arrays; what is left of every item table after that is what the
plan is cut from, so that the rest of a run sees new and changed items only.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.generations import key_tables, tables
from transforms.generations.key_tables import KeyBatch, records_of
from transforms.records import Changes, FileReference, ItemSlice
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources import items
from transforms.storage import layout, uris
from transforms.tasks import losses
from transforms.tasks.listing import SkippableFile
from transforms.tasks.losses import KnownItems
from transforms.tasks.repeats import find_repeated

FIRST_BITS: Final = 8
"""Of a hash, that number the buckets of a first build: each is searched by one worker, and every quarter of a million
items of a container send something to each. With more, a folder of a thousand pictures would send more than a thousand
messages; with fewer, a bucket would grow too large. At 10⁹ items one holds 190 MB, and 10 times that at 10¹⁰."""

LEAST_BITS: Final = 6
"""Of a hash, that number the buckets in which a reindex compares: a collection may be many times what it was."""


@dataclass(frozen=True)
class BucketChanges:
    """What became of the items of a hash bucket.

    Attributes:
        number, bits: which bucket.
        changes: counts.
        removed: the entries of items that are gone, which stand first, or come anew; None: there are none.
        repeated: names two items of one key; then the rest says nothing.
        sources: what became of the items that were known of each source.
    """

    number: int
    bits: int
    changes: Changes
    removed: FileReference | None = None
    repeated: str | None = None
    sources: KnownItems = field(default_factory=KnownItems)


@dataclass(frozen=True)
class ChosenItems:
    """Items of one item table that get new rows: records (`key_tables.CHOSEN`) as bytes, in any order."""

    table: str
    records: bytes


NO_CHANGES: Final = Changes(0, 0, 0, 0, 0, 0)


def total(changes: Iterable[Changes]) -> Changes:
    """Adds counts."""
    names = Changes.__dataclass_fields__
    some = list(changes)
    return Changes(**{name: sum(getattr(one, name) for one in some) for name in names})


def bits_of(run: Run) -> int:
    """Returns how many bits of a hash number the buckets in which the items of a run meet."""
    if run.base is None:
        return FIRST_BITS
    return max([LEAST_BITS, *(bucket.bits for bucket in tables.buckets_of(run.base_store, run.base))])


def repeats_in(run: Run, number: int, batches: Iterable[KeyBatch]) -> Iterator[BucketChanges]:
    """Yields two items of one key, where a bucket of a first build has them."""
    if repeated := find_repeated(run, list(batches)):
        yield BucketChanges(number, FIRST_BITS, NO_CHANGES, repeated=repeated)


def shards_to_check(run: Run) -> Iterator[tuple[int, FileReference]]:
    """Yields the files of the base's shards with their numbers, where a repair is asked for."""
    base, reindex = run.base, run.request.reindex
    if base is None or reindex is None or not reindex.repair:
        return
    for marker in tables.shards_of(run.base_store, base):
        if marker.embeddings is not None:
            yield marker.shard, marker.embeddings
    for shard, rejects in tables.rejects_of(run.base_store, base).items():
        if rejects.file is not None:
            yield shard, rejects.file


def is_damaged(run: Run, file: FileReference) -> bool:
    """Tells whether a file of the base is missing, or is not the one that was written. Reads all of it."""
    store = run.base_store
    return not store.holds(file) or store.sha256(file.path) != file.checksum.removeprefix("sha256:")


def compare_bucket(
    run: Run,
    bits: int,
    number: int,
    listed: Iterable[KeyBatch],
    skippable: Sequence[SkippableFile],
    damaged: Sequence[int],
) -> Iterator[BucketChanges | ChosenItems]:
    """Compares what is listed of a bucket with what the base knows of it; nothing where the plan is there.

    Yields what is to be embedded, by item table, and then what became of the bucket.

    Args:
        run: the run.
        bits, number: which bucket.
        listed: records of its items.
        skippable: files whose items are as they were unless they were opened.
        damaged: shards whose items are to be embedded again.
    """
    base, reindex = run.base, run.request.reindex
    if base is None or reindex is None or run.is_planned:
        return
    batches = sorted(listed)
    if repeated := find_repeated(run, batches):
        yield BucketChanges(number, bits, NO_CHANGES, repeated=repeated)
        return
    records = [records_of(data) for _, data in batches]
    known = key_tables.read_bucket(run.base_store, tables.buckets_of(run.base_store, base), number, bits)
    unopened = [key_tables.origin_of(file.uri) for file in skippable if not file.opened]
    retry = None if reindex.retry is None else np.array([*map(key_tables.reject_of, reindex.retry)], np.uint32)
    difference = key_tables.compare(
        known,
        np.concatenate([np.empty(0, key_tables.LISTED), *records]),
        np.array(unopened, np.uint64),
        retry,
        np.array(damaged, np.int64),
    )
    if difference.clashes.any():
        yield BucketChanges(number, bits, NO_CHANGES, repeated=_clash(run, batches, difference.clashes))
        return
    start = 0
    for (table, _), of_table in zip(batches, records, strict=True):
        part = slice(start, start + len(of_table))
        chosen = difference.records[part][difference.chosen[part]]
        start += len(of_table)
        if len(chosen):
            yield ChosenItems(table, chosen.tobytes())
    removed = np.concatenate([known[difference.gone], known[difference.removed & ~difference.gone]])
    folder = layout.removed_folder(run.generation)
    file = key_tables.write_entries(run.store, removed, folder) if len(removed) else None
    listed_by = [
        (layout.source_of_items(table), len(of_table)) for (table, _), of_table in zip(batches, records, strict=True)
    ]
    sources = losses.count(run.request.sources, known, difference, listed_by, _skippable_files(run, skippable))
    yield BucketChanges(number, bits, difference.counts, file, sources=sources)


def _skippable_files(run: Run, skippable: Sequence[SkippableFile]) -> list[list[str]]:
    """The files of each source that need not be opened, and of globs those that were known, too."""
    files_of: list[list[str]] = []
    for source in run.request.sources:
        names = [source.pattern]
        if source.is_skippable and uris.is_pattern(source.pattern) and run.base is not None:
            known = {*tables.containers_of(run.base_store, run.base), *(file.uri for file in skippable)}
            names += sorted(name for name in known if uris.matches(source.pattern, name))
        files_of.append(names)
    return files_of


def select_items(run: Run, listings: Iterable[Listing], chosen: Iterable[bytes]) -> Iterator[Listing]:
    """Leaves of an item table only what is chosen (records as bytes), in a table of its own."""
    parts = [np.frombuffer(part, key_tables.CHOSEN) for part in chosen]
    if not parts:
        return
    records = np.concatenate(parts)
    records = records[np.argsort(records["position"])]
    for listing in listings:
        for whole in (False, True):
            if len(some := records[records["whole"] == whole]):
                yield _selected(run, replace(listing, carried=whole), some)


def _selected(run: Run, listing: Listing, records: NDArray[np.void]) -> Listing:
    count, positions = sum(count for count, _ in listing.chunks), records["position"]
    are_carried = bool((records["shard"] >= 0).any())
    if len(records) == count and not are_carried:
        return listing
    store = run.store
    with store.scratch() as scratch:
        file = scratch / "items.parquet"
        chunks: list[tuple[int, int]] = []

        def chosen() -> Iterator[pa.Table]:
            for start in range(0, count, items.ITEMS_PER_GROUP):
                stop = min(start + items.ITEMS_PER_GROUP, count)
                some = records[np.searchsorted(positions, start) : np.searchsorted(positions, stop)]
                if len(some):
                    taken = items.read(store, ItemSlice(listing.table, start, stop))
                    taken = taken.take(pa.array(some["position"] - start))
                    if are_carried:
                        taken = taken.append_column(items.CARRIED, _carried(some))
                    chunks.extend(items.chunks_of(taken[items.ROWS].to_numpy()))
                    yield taken

        items.write(chosen(), file)
        kind = "carried" if listing.carried else "changed"
        folder, stem = layout.items_folder(run.generation), f"{kind}-{listing.source:04d}"
        return replace(listing, table=store.upload(file, folder, stem), chunks=tuple(chunks))


def _carried(records: NDArray[np.void]) -> pa.Array:
    names = [name for name in key_tables.CHOSEN.names or () if name not in ("position", "whole")]
    columns = [pa.array(np.ascontiguousarray(records[name])) for name in names]
    return pa.StructArray.from_arrays(columns, names, mask=pa.array(records["shard"] < 0))


def _clash(run: Run, batches: Sequence[KeyBatch], clashes: NDArray[np.bool_]) -> str:
    """Names the first item that has the key of a row of a CSV which was not opened."""
    place = int(np.flatnonzero(clashes)[0])
    for table, data in batches:
        records = records_of(data)
        if place < len(records):
            key, uri = items.key_at(run.store, table, int(records["position"][place]))
            return f"{key} is the key of {uri} and of a row of {key.rpartition('#')[0]}"
        place -= len(records)
    raise AssertionError("a clash is among the records")
