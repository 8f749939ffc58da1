"""The first stage: from the request to a committed plan."""

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
import xxhash
from apache_beam.pvalue import AsList, PCollection, TaggedOutput
from numpy.typing import NDArray

from transforms import layout, planning
from transforms.capacity import Workload
from transforms.errors import PixdexError, UsageError
from transforms.index.choose import choose
from transforms.index.sizing import check_worker_memory
from transforms.planning import Listing
from transforms.records import Plan, Source, StageMarker, digest
from transforms.run import Run
from transforms.sources import items, vectors
from transforms.sources.csv_rows import CsvListing
from transforms.sources.vectors import ReadyFile, VectorFile
from transforms.stage import FinishStage

if TYPE_CHECKING:
    from transforms.sources.pictures import PictureListing

_KEY_BUCKETS = 256
"""Each is searched by one worker, and every quarter of a million items of a container send something to each: with
more, a folder of a thousand pictures would send nearly a thousand messages; with fewer, a bucket would grow too large.
At 10⁹ items one holds 94 MB, and 10 times that at 10¹⁰."""

_FILES_AT_ONCE = 64
"""Files of ready embeddings whose headers one element stands for: each takes a worker two small reads."""

_SUSPECTS = 1000
"""Keys of a bucket that are looked at closely; the first of them is worth a message."""

_KEYS: Final = "keys"
_KEY_ENTRY = np.dtype([("bucketed", "<u8"), ("hash", "<u8"), ("position", "<i8")])

KeyBatch = tuple[str, bytes]
"""The path of an item table, and for some of its items a 128-bit hash of the key with the position in the table."""


@dataclass(frozen=True)
class Container:
    """A part of a source that one worker lists: a folder, with or without what lies below it, or a CSV file."""

    source: int
    name: str


@dataclass(frozen=True)
class VectorFiles:
    """Some files of ready embeddings, whose headers one worker reads."""

    files: tuple[VectorFile, ...]


@dataclass(eq=False)
class PlanItems(beam.PTransform):
    """Lists every source, refuses keys that occur twice, cuts the items into partitions, and commits the plan.

    An index that a worker of `worker_memory` bytes (None: of this machine's) could not train, add to or merge is
    refused before the plan is committed.

    Cost: one listing call a folder and one read of every CSV, spread over workers. To find keys that occur twice, 24
    bytes an item are shuffled, in pieces that each name their item table (about 60 bytes); a worker holds 1/256 of
    them, and 16 bytes more an item to sort. Of ready embeddings, whose keys are unique by construction, only headers
    are read, and a small record a file is gathered. A run whose plan is committed lists nothing.
    """

    run: Run
    first_shard: int
    worker_memory: int | None = None

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
            >> beam.ParDo(
                _CommitPlan(self.run, self.first_shard, self.worker_memory),
                AsList(listed["listings"]),
                AsList(repeated),
            )
            | "PlanDone" >> FinishStage(self.run, "plan")
        )


def listing_of(source: Source) -> "PictureListing | CsvListing":
    """Returns what lists a source of pictures or rows."""
    return _pictures_of(source) if source.kind == "images" else CsvListing(source)


def _pictures_of(source: Source) -> "PictureListing":
    from transforms.sources.pictures import PictureListing  # noqa: PLC0415 - ready embeddings need no Pillow

    return PictureListing(source)


class _ExpandSources(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, generation: int) -> Iterator[Container | VectorFiles]:
        if self._run.store.exists(layout.plan(generation)):
            return
        sources = self._run.request.sources
        for number, source in enumerate(sources):
            if source.kind != "vectors":
                listing = listing_of(source)
                names = [source.pattern] if isinstance(listing, CsvListing) else listing.containers()
                yield from (Container(number, name) for name in names)
        files = vectors.files_of(sources)
        for start in range(0, len(files), _FILES_AT_ONCE):
            yield VectorFiles(tuple(files[start : start + _FILES_AT_ONCE]))


class _ListContainer(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(
        self, part: Container | VectorFiles
    ) -> Iterator[Listing | ReadyFile | TaggedOutput[Literal["keys"], tuple[int, KeyBatch]]]:
        if isinstance(part, VectorFiles):
            yield from vectors.read_heads(self._run.request.sources, part.files)
        else:
            yield from self._items(part)

    def _items(self, container: Container) -> Iterator[Listing | TaggedOutput[Literal["keys"], tuple[int, KeyBatch]]]:
        store = self._run.store
        with store.scratch() as scratch:
            file = scratch / "items.parquet"
            items.write(self._batches(container), file)
            if not file.exists():
                return
            table = store.upload(file, layout.items_folder(self._run.generation), f"items-{container.source:04d}")
        chunks: list[tuple[int, int]] = []
        start = 0
        for batch in items.scan(store, table.path):
            chunks += items.chunks_of(batch[items.ROWS].to_numpy())
            for bucket, entries in _key_entries(batch["key"], start):
                yield TaggedOutput(_KEYS, (bucket, (table.path, entries)))
            start += len(batch)
        yield Listing(container.source, container.name, table, tuple(chunks))

    def _batches(self, container: Container) -> Iterator[pa.Table]:
        sources = self._run.request.sources
        source = sources[container.source]
        listing = listing_of(source)
        if isinstance(listing, CsvListing):
            yield from listing.batches()
            return
        # A file that two globs match is one object, not two with one key: the earlier glob has it.
        earlier = [
            _pictures_of(other)
            for other in sources[: container.source]
            if other.kind == "images" and _protocol(other) == _protocol(source)
        ]
        yield from listing.batches(container.name, earlier)


def _protocol(source: Source) -> str:
    return source.pattern.partition("://")[0]


class _FindRepeated(beam.DoFn):
    """Finds keys that two items share, among the keys of one bucket."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, bucket: tuple[int, Iterable[KeyBatch]]) -> Iterator[str]:
        _, batches = bucket
        # Half of the hash tells nearly all keys apart, and sorts in a third of the memory.
        halves = np.concatenate([np.frombuffer(entries, _KEY_ENTRY)["hash"] for _, entries in batches])
        halves.sort()
        suspects = np.unique(halves[1:][halves[1:] == halves[:-1]])[:_SUSPECTS]
        if len(suspects):
            yield from self._repeated(batches, suspects)

    def _repeated(self, batches: Iterable[KeyBatch], suspects: NDArray[np.uint64]) -> Iterator[str]:
        """Names two items of one key, the first there are, among the entries whose half of a hash is a suspect."""
        first_two: dict[tuple[int, int], list[tuple[str, int]]] = {}
        for table, data in batches:
            entries = np.frombuffer(data, _KEY_ENTRY)
            for *whole, position in entries[np.isin(entries["hash"], suspects)].tolist():
                places = first_two.setdefault(tuple(whole), [])
                places[:] = sorted([*places, (table, position)])[:2]
        for _, places in sorted(first_two.items()):
            if len(places) == 2:
                (key, one), (_, other) = (self._named(*place) for place in places)
                yield f"{key} is the key of {one} and of {other}"
                return

    def _named(self, table: str, position: int) -> tuple[str, str]:
        """Returns the key of an item, and what to call the item: a CSV has a row, a picture its URI."""
        key, uri = items.key_at(self._run.store, table, position)
        for source in self._run.request.sources:
            if source.kind == "csv" and key.startswith(unicodedata.normalize("NFC", source.pattern) + "#"):
                return key, f"row {position + 1} of {source.pattern}"
        return key, uri


class _CommitPlan(beam.DoFn):
    def __init__(self, run: Run, first_shard: int, worker_memory: int | None) -> None:
        self._run = run
        self._first_shard = first_shard
        self._worker_memory = worker_memory

    def process(self, generation: int, listed: Sequence[Listing | ReadyFile], repeated: Sequence[str]) -> Iterator[int]:
        run = self._run
        if not run.store.exists(layout.plan(generation)):
            if repeated:
                raise UsageError(f"{min(repeated)}: a key names one item; rename one, or choose another --key-column")
            run.store.commit(layout.plan(generation), self._plan(generation, listed))
        # Asked after the commit: whoever gives the run up either counts this plan's numbers or is seen here.
        if run.store.exists(layout.abandoned(generation)):
            raise PixdexError(
                f"{run.store.url}: the run of generation {generation} was given up by another build of this root: "
                "wait for that one, then run again"
            )
        yield generation

    def _plan(self, generation: int, listed: Sequence[Listing | ReadyFile]) -> Plan:
        """Chooses the index, cuts everything into partitions, and writes their table."""
        run, dim = self._run, self._run.request.encoder.dim
        listings = [listing for listing in listed if isinstance(listing, Listing)]
        files = sorted(
            (file for file in listed if isinstance(file, ReadyFile)), key=lambda file: (file.source, file.place)
        )
        vectors.check_dimension(files, dim)
        counts = [chunk for listing in listings for chunk in listing.chunks]
        counts += [(file.vectors.stop, file.vectors.stop) for file in files]
        items_planned, rows = sum(count for count, _ in counts), sum(count for _, count in counts)
        planning.check_not_empty(items_planned, ready=bool(files))
        # Here, and nowhere else, a person is warned that the key became another one.
        key = choose(run.request.index, rows, dim)
        load = Workload(
            key,
            run.request.index.metric,
            rows,
            dim,
            normalized=run.request.encoder.normalize,
            object_store=run.store.local is None,
        )
        check_worker_memory(load, self._worker_memory)
        limit = load.block_rows
        if files:
            partitions = planning.cut_ready([file.vectors for file in files], self._first_shard, limit)
        else:
            partitions = planning.cut(listings, self._first_shard, limit)
        return Plan(
            generation=generation,
            request_digest=digest(run.request),
            partitions=planning.write_partitions(run.store, layout.plan_folder(generation), partitions),
            first_shard=self._first_shard,
            shards=len(partitions),
            blocks=partitions[-1].block + 1,
            items=items_planned,
            rows=rows,
            index_key=str(key),
        )


def _key_entries(keys: pa.Array, start: int) -> Iterator[tuple[int, bytes]]:
    """Yields the entries of the keys from position `start` of a table by bucket, as bytes of `_KEY_ENTRY`."""
    hashes = b"".join([xxhash.xxh3_128_digest(key) for key in keys.cast(pa.binary()).to_pylist()])
    entries = np.empty(len(keys), _KEY_ENTRY)
    entries["bucketed"], entries["hash"] = np.frombuffer(hashes, "<u8").reshape(-1, 2).T
    entries["position"] = start + np.arange(len(keys))
    buckets = (entries["bucketed"] % _KEY_BUCKETS).astype(np.int64)
    order = np.argsort(buckets, kind="stable")
    bounds = np.flatnonzero(np.diff(buckets[order], prepend=-1, append=_KEY_BUCKETS))
    for begin, stop in itertools.pairwise(bounds):
        chosen = order[begin:stop]
        yield int(buckets[chosen[0]]), entries[chosen].tobytes()
