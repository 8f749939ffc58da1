"""What changed in the sources since a generation: items to embed, and entries whose rows are dead. For a reindex.

Listed items and known entries meet by hash bucket, as arrays; what is left of every item table after that is what the
plan is cut from, so that the rest of a run sees new and changed items only.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsList, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations
from numpy.typing import NDArray

from transforms.generations import key_tables, manifest, tables
from transforms.records import Changes, FileReference, ItemSlice, Reindex
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources import items
from transforms.sources.vectors import ReadyFile
from transforms.stages.listing import KeyBatch, SkippableFile, base_of, records_of
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.repeats import find_repeated

LEAST_BITS: Final = 6
"""Of a hash, that number the buckets in which a reindex compares: a collection may be many times what it was."""

_CHOSEN: Final = "chosen"


@dataclass(frozen=True)
class BucketChanges:
    """What became of the items of a hash bucket.

    Attributes:
        number, bits: which bucket.
        changes: counts.
        removed: the entries of items that are gone, or come anew; None: there are none.
        repeated: names two items of one key; then the rest says nothing.
    """

    number: int
    bits: int
    changes: Changes
    removed: FileReference | None = None
    repeated: str | None = None


NO_CHANGES: Final = Changes(0, 0, 0, 0, 0, 0)


def total(changes: Iterable[Changes]) -> Changes:
    """Adds counts."""
    names = Changes.__dataclass_fields__
    some = list(changes)
    return Changes(**{name: sum(getattr(one, name) for one in some) for name in names})


@dataclass(eq=False)
class CompareItems(beam.PTransform):
    """Compares the items that were listed with those of a generation.

    Cost: reads the key tables of the generation once (about 50 bytes an item), and the tables of containers that
    changed once more. Memory of a worker is what is listed and known of one bucket, five times.

    Takes (listings, key batches by bucket, files that need not be opened); returns the listings of what is new or
    changed, and a `BucketChanges` a bucket.
    """

    run: Run
    base: Store
    bits: int

    @no_annotations  # type: ignore[untyped-decorator]  # Beam knows no types of several collections, and warns of them
    def expand(
        self,
        listed: tuple[PCollection[Listing | ReadyFile], PCollection[tuple[int, KeyBatch]], PCollection[SkippableFile]],
    ) -> tuple[PCollection[Listing], PCollection[BucketChanges]]:
        """Wires it."""
        listings, keys, skippable = listed
        # Every bucket is looked at, also one of which nothing is listed any more.
        everywhere = keys.pipeline | "AllBuckets" >> beam.Create([(bucket, None) for bucket in range(1 << self.bits)])
        reindex = self.run.request.reindex
        checked = keys.pipeline | "ShardsToCheck" >> beam.Create([self.run.generation])
        damaged = (
            checked
            | "ReadShards" >> beam.ParDo(_ShardsToCheck(self.base, reindex))
            # Breaks the fusion with the one reader of the table: shards are checked on all workers.
            | "SpreadShards" >> beam.Reshuffle()
            | "CheckShard" >> beam.ParDo(_CheckShard(self.base))
        )
        compared = (
            (keys, everywhere)
            | "Buckets" >> beam.Flatten()
            | "ByKeyHash" >> beam.GroupByKey()
            | "CompareBucket"
            >> beam.ParDo(
                _CompareBucket(self.run, self.base, self.bits), AsList(skippable), AsList(damaged)
            ).with_outputs(_CHOSEN, main="changes")
        )
        selected = (
            {
                "listings": listings | "ByTable" >> beam.ParDo(_ByTable()),  # type: ignore[no-untyped-call]  # Beam's class has none
                "chosen": compared[_CHOSEN],
            }
            | "ItemsByTable" >> beam.CoGroupByKey()
            | "SelectItems" >> beam.ParDo(_SelectItems(self.run))
        )
        return selected, compared["changes"]


class _ByTable(beam.DoFn):
    """Names a listing by its table. (Of ready embeddings there are other records, and no tables.)"""

    def process(self, listing: Listing | ReadyFile) -> Iterator[tuple[str, Listing]]:
        if isinstance(listing, Listing):
            yield listing.table.path, listing


class _ShardsToCheck(beam.DoFn):
    """Yields the shards that have files, where a repair is asked for."""

    def __init__(self, base: Store, reindex: Reindex | None) -> None:
        self._store, self._reindex = base, reindex

    def process(self, generation: int) -> Iterator[tuple[int, FileReference]]:
        if self._reindex is None or not self._reindex.repair:
            return
        base = manifest.read(self._store, self._reindex.base)
        for marker in tables.shards_of(self._store, base):
            if marker.embeddings is not None:
                yield marker.shard, marker.embeddings
        yield from tables.rejects_of(self._store, base).items()


class _CheckShard(beam.DoFn):
    """Yields the number of a shard that has a file which is missing, or is not the one that was written."""

    def __init__(self, base: Store) -> None:
        self._store = base

    def process(self, shard: tuple[int, FileReference]) -> Iterator[int]:
        number, file = shard
        if not self._store.holds(file) or self._store.sha256(file.path) != file.checksum.removeprefix("sha256:"):
            yield number


class _CompareBucket(beam.DoFn):
    def __init__(self, run: Run, base: Store, bits: int) -> None:
        self._run, self._store, self._bits = run, base, bits

    def process(
        self, bucket: tuple[int, Iterable[KeyBatch | None]], skippable: Sequence[SkippableFile], damaged: Sequence[int]
    ) -> Iterator[BucketChanges | TaggedOutput[Literal["chosen"], tuple[str, bytes]]]:
        number, found = bucket
        run, reindex = self._run, self._run.request.reindex
        base = base_of(run, self._store)
        if base is None or reindex is None or run.store.exists(layout.plan(run.generation)):
            return
        batches = sorted(batch for batch in found if batch is not None)
        if repeated := find_repeated(run, batches):
            yield BucketChanges(number, self._bits, NO_CHANGES, repeated=repeated)
            return
        records = [records_of(data) for _, data in batches]
        known = key_tables.read_bucket(self._store, tables.buckets_of(self._store, base), number, self._bits)
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
            yield BucketChanges(number, self._bits, NO_CHANGES, repeated=self._clash(batches, difference.clashes))
            return
        start = 0
        for (table, _), own in zip(batches, records, strict=True):
            chosen = own["position"][difference.chosen[start : start + len(own)]]
            start += len(own)
            if len(chosen):
                yield TaggedOutput(_CHOSEN, (table, chosen.tobytes()))
        removed = known[difference.removed]
        folder = layout.removed_folder(run.generation)
        file = key_tables.write_entries(run.store, removed, folder) if len(removed) else None
        yield BucketChanges(number, self._bits, difference.counts, file)

    def _clash(self, batches: Sequence[KeyBatch], clashes: NDArray[np.bool_]) -> str:
        """Names the first item that has the key of a row of a CSV which was not opened."""
        place = int(np.flatnonzero(clashes)[0])
        for table, data in batches:
            records = records_of(data)
            if place < len(records):
                key, uri = items.key_at(self._run.store, table, int(records["position"][place]))
                return f"{key} is the key of {uri} and of a row of {key.rpartition('#')[0]}"
            place -= len(records)
        raise AssertionError("a clash is among the records")


class _SelectItems(beam.DoFn):
    """Leaves of an item table only what is to be embedded, in a table of its own."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, table: tuple[str, dict[str, Iterable[Listing | bytes]]]) -> Iterator[Listing]:
        _, joined = table
        parts = [np.frombuffer(part, np.int64) for part in joined["chosen"] if isinstance(part, bytes)]
        if not parts:
            return
        positions = np.sort(np.concatenate(parts))
        for listing in joined["listings"]:
            assert isinstance(listing, Listing)
            yield self._select(listing, positions)

    def _select(self, listing: Listing, positions: NDArray[np.int64]) -> Listing:
        count = sum(count for count, _ in listing.chunks)
        if len(positions) == count:
            return listing
        store = self._run.store
        with store.scratch() as scratch:
            file = scratch / "items.parquet"
            chunks: list[tuple[int, int]] = []

            def chosen() -> Iterator[pa.Table]:
                for start in range(0, count, items.ITEMS_PER_GROUP):
                    stop = min(start + items.ITEMS_PER_GROUP, count)
                    some = positions[np.searchsorted(positions, start) : np.searchsorted(positions, stop)]
                    if len(some):
                        taken = items.read(store, ItemSlice(listing.table, start, stop)).take(pa.array(some - start))
                        chunks.extend(items.chunks_of(taken[items.ROWS].to_numpy()))
                        yield taken

            items.write(chosen(), file)
            folder, stem = layout.items_folder(self._run.generation), f"changed-{listing.source:04d}"
            return replace(listing, table=store.upload(file, folder, stem), chunks=tuple(chunks))
