"""The first stage: from the request to a committed plan."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from apache_beam.pvalue import AsList, PCollection, TaggedOutput

from transforms import layout, planning
from transforms.errors import PixdexError, UsageError
from transforms.index.choose import choose
from transforms.planning import Listing
from transforms.records import FileReference, Plan, Source, StageMarker, digest
from transforms.run import Run
from transforms.sources import items
from transforms.sources.csv_rows import CsvListing
from transforms.sources.pictures import PictureListing
from transforms.stage import FinishStage

_KEY_BUCKETS = 1024
_KEYS: Final = "keys"
_KEY_ENTRY = np.dtype([("hash", "V16"), ("position", "<i8")])

KeyBatch = tuple[FileReference, bytes]
"""An item table, and for some of its items a 128-bit hash of the key with the position in the table."""


@dataclass(frozen=True)
class Container:
    """A part of a source that one worker lists: a folder or a CSV file."""

    source: int
    name: str


@dataclass(eq=False)
class PlanItems(beam.PTransform):
    """Lists every source, refuses keys that occur twice, cuts the items into partitions, and commits the plan.

    Cost: one listing call a folder and one read of every CSV, spread over workers; 24 bytes an item are shuffled to
    find keys that occur twice. A run whose plan is committed lists nothing.
    """

    run: Run
    first_shard: int

    def expand(self, begin: beam.pvalue.PBegin) -> PCollection[StageMarker]:
        """Starts the graph."""
        listed = (
            begin
            | "Run" >> beam.Create([self.run.generation])
            | "ExpandSources" >> beam.ParDo(_ExpandSources(self.run))
            # Breaks the fusion with one expanding worker: containers are listed on all of them.
            | "SpreadContainers" >> beam.Reshuffle()
            | "ListContainer" >> beam.ParDo(_ListContainer(self.run)).with_outputs(_KEYS, main="listings")
        )
        repeated = (
            listed[_KEYS] | "ByKeyHash" >> beam.GroupByKey() | "FindRepeatedKeys" >> beam.ParDo(_FindRepeated(self.run))
        )
        return (
            begin
            | "Plan" >> beam.Create([self.run.generation])
            | "CommitPlan"
            >> beam.ParDo(_CommitPlan(self.run, self.first_shard), AsList(listed["listings"]), AsList(repeated))
            | "PlanDone" >> FinishStage(self.run, "plan")
        )


def listing_of(source: Source) -> PictureListing | CsvListing:
    """Returns what lists a source."""
    return PictureListing(source) if source.kind == "images" else CsvListing(source)


class _ExpandSources(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, generation: int) -> Iterator[Container]:
        if self._run.store.exists(layout.plan(generation)):
            return
        for number, source in enumerate(self._run.request.sources):
            listing = listing_of(source)
            names = listing.containers() if isinstance(listing, PictureListing) else [source.pattern]
            yield from (Container(number, name) for name in names)


class _ListContainer(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, container: Container) -> Iterator[Listing | TaggedOutput[Literal["keys"], tuple[int, KeyBatch]]]:
        store = self._run.store
        with store.scratch() as scratch:
            file = scratch / "items.parquet"
            items.write(self._batches(container), file)
            if not file.exists():
                return
            table = pq.read_table(file, columns=["key", items.ROWS])
            reference = store.upload(file, layout.items_folder(self._run.generation), f"items-{container.source:04d}")
        chunks = items.chunks_of(table[items.ROWS].to_numpy())
        yield Listing(container.source, container.name, reference, tuple(chunks))
        for bucket, entries in _key_entries(table["key"]):
            yield TaggedOutput(_KEYS, (bucket, (reference, entries)))

    def _batches(self, container: Container) -> Iterator[pa.Table]:
        sources = self._run.request.sources
        listing = listing_of(sources[container.source])
        if isinstance(listing, CsvListing):
            yield from listing.batches()
            return
        # A file that two globs match is one object, not two with one key: the earlier glob has it.
        earlier = [PictureListing(source) for source in sources[: container.source] if source.kind == "images"]
        yield from listing.batches(container.name, earlier)


class _FindRepeated(beam.DoFn):
    """Finds keys that two items share, among the keys of one bucket."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, bucket: tuple[int, Iterable[KeyBatch]]) -> Iterator[str]:
        batches = [(table, np.frombuffer(entries, _KEY_ENTRY)) for table, entries in bucket[1]]
        entries = np.concatenate([found for _, found in batches])
        batch = np.repeat(np.arange(len(batches)), [len(found) for _, found in batches])
        order = np.argsort(entries["hash"], kind="stable")
        same = np.flatnonzero(entries["hash"][order][1:] == entries["hash"][order][:-1])
        if len(same):
            two = [
                items.key_at(self._run.store, batches[batch[place]][0], int(entries["position"][place]))
                for place in order[same[0] : same[0] + 2]
            ]
            (key, one), (_, other) = sorted(two)
            yield f"{key} is the key of {one} and of {other}" if one != other else f"{key} is the key of two items"


class _CommitPlan(beam.DoFn):
    def __init__(self, run: Run, first_shard: int) -> None:
        self._run = run
        self._first_shard = first_shard

    def process(self, generation: int, listings: Sequence[Listing], repeated: Sequence[str]) -> Iterator[int]:
        run = self._run
        if not run.store.exists(layout.plan(generation)):
            if repeated:
                raise UsageError(f"{min(repeated)}: a key names one item; rename one, or choose another --key-column")
            planning.check_not_empty(listings)
            rows = sum(rows for listing in listings for _, rows in listing.chunks)
            key = choose(run.request.index, rows, run.request.encoder.dim)
            partitions = planning.cut(listings, self._first_shard, key.nlist)
            table = planning.write_partitions(run.store, layout.plan_folder(generation), partitions)
            run.store.commit(
                layout.plan(generation),
                Plan(
                    generation=generation,
                    request_digest=digest(run.request),
                    partitions=table,
                    first_shard=self._first_shard,
                    shards=len(partitions),
                    blocks=partitions[-1].block + 1,
                    items=sum(partition.items for partition in partitions),
                    rows=rows,
                    index_key=str(key),
                ),
            )
        # Asked after the commit: whoever gives the run up either counts this plan's numbers or is seen here.
        if run.store.exists(layout.abandoned(generation)):
            raise PixdexError(
                f"{run.store.url}: the run of generation {generation} was given up by another build of this root: "
                "wait for that one, then run again"
            )
        yield generation


def _key_entries(keys: pa.ChunkedArray) -> Iterator[tuple[int, bytes]]:
    """Yields the entries of a table's keys by bucket, as bytes of `_KEY_ENTRY`."""
    hashes = b"".join([xxhash.xxh3_128_digest(key) for key in keys.cast(pa.binary()).to_pylist()])
    entries = np.empty(len(keys), _KEY_ENTRY)
    entries["hash"] = np.frombuffer(hashes, "V16")
    entries["position"] = np.arange(len(keys))
    buckets = np.frombuffer(hashes, "<u2").reshape(-1, 8)[:, 0] % _KEY_BUCKETS
    order = np.argsort(buckets, kind="stable")
    bounds = np.flatnonzero(np.diff(buckets[order], prepend=-1, append=_KEY_BUCKETS))
    for start, stop in itertools.pairwise(bounds):
        chosen = order[start:stop]
        yield int(buckets[chosen[0]]), entries[chosen].tobytes()
