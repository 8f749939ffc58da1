"""The first stage: from the request to a committed plan."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsList, PCollection

from transforms.errors import PixdexError, UsageError
from transforms.forecast.memory import check_worker_memory
from transforms.forecast.workload import Workload
from transforms.generations import key_tables, tables, tombstones
from transforms.generations.manifest import Generation
from transforms.index.choose import choose
from transforms.index.index_key import IndexKey
from transforms.markers import ShardMarker, StageMarker
from transforms.records import Changes, FileReference, Partition, Plan, VectorRange, digest
from transforms.runs import partitions as planning
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources import vectors
from transforms.sources.vectors import ReadyFile
from transforms.stages import changes
from transforms.stages.barrier import FinishStage
from transforms.stages.changes import BucketChanges, CompareItems
from transforms.stages.listing import CONTAINERS, KEYS, ExpandSources, KeyBatch, ListContainer, SkippableFile, base_of
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store
from transforms.tasks.repeats import find_repeated

_BITS = 8
"""Of a hash, that number the buckets of a first build: each is searched by one worker, and every quarter of a million
items of a container send something to each. With more, a folder of a thousand pictures would send more than a thousand
messages; with fewer, a bucket would grow too large. At 10⁹ items one holds 125 MB, and 10 times that at 10¹⁰."""

_CONTAINERS = pa.schema([("uri", pa.string()), ("version", pa.string())])
_REMOVED = pa.schema(
    [
        *((name, pa.int64()) for name in ("bucket", "bits")),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
    ]
)


@dataclass(eq=False)
class PlanItems(beam.PTransform):
    """Lists every source, refuses keys that occur twice, cuts the items into partitions, and commits the plan.

    Of a reindex, only what is new or changed is planned. `base` is the root of the generation that it goes on from,
    where that is not the root of the run. An index that a worker of `worker_memory` bytes (None: of this machine's)
    could not train, add to or merge is refused before the plan is committed.

    Cost: one listing call a folder and one read of every CSV, spread over workers. To find keys that occur twice, and
    what changed, 32 bytes an item are shuffled, in pieces that each name their item table (about 60 bytes); a worker
    holds 1/256 of them, and 16 bytes more an item to sort. Of ready embeddings, whose keys are unique by construction,
    only headers are read, and a small record a file is gathered. A run whose plan is committed lists nothing.
    """

    run: Run
    first_shard: int
    worker_memory: int | None = None
    base: Store | None = None

    def expand(self, begin: beam.pvalue.PBegin) -> PCollection[StageMarker]:
        """Starts the graph."""
        store = self.base or self.run.store
        published = base_of(self.run, store)
        bits = _BITS
        if published is not None:
            known = tables.buckets_of(store, published)
            bits = max([changes.LEAST_BITS, *(bucket.bits for bucket in known)])
        listed = (
            begin
            | "Run" >> beam.Create([self.run.generation])
            | "ExpandSources" >> beam.ParDo(ExpandSources(self.run))
            # Breaks the fusion with one expanding worker: containers are listed on all of them.
            | "SpreadContainers" >> beam.Reshuffle()
            | "ListContainer"
            >> beam.ParDo(ListContainer(self.run, store, bits)).with_outputs(KEYS, CONTAINERS, main="listings")
        )
        listings, keys = listed["listings"], listed[KEYS]
        if published is not None and not self.run.request.is_ready:
            listings, compared = (listings, keys, listed[CONTAINERS]) | "Compare" >> CompareItems(self.run, store, bits)
        else:
            compared = keys | "ByKeyHash" >> beam.GroupByKey() | "FindRepeated" >> beam.ParDo(_FindRepeated(self.run))
        return (
            begin
            | "Plan" >> beam.Create([self.run.generation])
            | "CommitPlan"
            >> beam.ParDo(
                _CommitPlan(self.run, store, self.first_shard, self.worker_memory),
                AsList(listings),
                AsList(compared),
                AsList(listed[CONTAINERS]),
            )
            | "PlanDone" >> FinishStage(self.run, "plan")
        )


class _FindRepeated(beam.DoFn):
    """Finds keys that two items share, among the keys of one bucket."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, bucket: tuple[int, Iterable[KeyBatch]]) -> Iterator[BucketChanges]:
        number, batches = bucket
        if repeated := find_repeated(self._run, list(batches)):
            yield BucketChanges(number, _BITS, changes.NO_CHANGES, repeated=repeated)


@dataclass(frozen=True)
class _Work:
    """What is to be embedded, what is dead, and how that was counted."""

    partitions: list[Partition]
    changes: Changes | None = None
    removed: FileReference | None = None


class _CommitPlan(beam.DoFn):
    def __init__(self, run: Run, base: Store, first_shard: int, worker_memory: int | None) -> None:
        self._run, self._store = run, base
        self._first_shard = first_shard
        self._worker_memory = worker_memory

    def process(
        self,
        generation: int,
        listed: Sequence[Listing | ReadyFile],
        compared: Sequence[BucketChanges],
        skippable: Sequence[SkippableFile],
    ) -> Iterator[int]:
        run = self._run
        if not run.store.exists(layout.plan(generation)):
            if repeated := [bucket.repeated for bucket in compared if bucket.repeated]:
                raise UsageError(f"{min(repeated)}: a key names one item; rename one, or choose another --key-column")
            run.store.commit(layout.plan(generation), self._plan(generation, listed, compared, skippable))
        # Asked after the commit: whoever gives the run up either counts this plan's numbers or is seen here.
        if run.store.exists(layout.abandoned(generation)):
            raise PixdexError(
                f"{run.store.url}: the run of generation {generation} was given up by another build of this root: "
                "wait for that one, then run again"
            )
        yield generation

    def _plan(
        self,
        generation: int,
        listed: Sequence[Listing | ReadyFile],
        compared: Sequence[BucketChanges],
        skippable: Sequence[SkippableFile],
    ) -> Plan:
        """Chooses the index, cuts everything into partitions, and writes their table."""
        run, base = self._run, base_of(self._run, self._store)
        listings = [listing for listing in listed if isinstance(listing, Listing)]
        files = sorted(
            (file for file in listed if isinstance(file, ReadyFile)), key=lambda file: (file.source, file.place)
        )
        vectors.check_dimension(files, run.request.encoder.dim)
        counted = changes.total(bucket.changes for bucket in compared)
        counts = [chunk for listing in listings for chunk in listing.chunks]
        # Of a file that the generation has already, no header was read.
        counts += [(file.vectors.stop, file.vectors.stop) for file in files if file.dim is not None]
        stays = counted.unchanged + counted.rejected + sum(file.dim is None and file.vectors.stop for file in files)
        planning.check_not_empty(sum(count for count, _ in counts) + stays, ready=bool(files))
        key, limit = self._index(sum(count for _, count in counts), base)
        if base is not None and files:
            work = self._ready_changes(base, files, limit)
        elif files:
            work = _Work(planning.cut_ready([file.vectors for file in files], self._first_shard, limit))
        elif base is not None:
            removed = [bucket for bucket in compared if bucket.removed]
            table = self._write_removed(removed) if removed else None
            work = _Work(planning.cut(listings, self._first_shard, limit), counted, table)
        else:
            work = _Work(planning.cut(listings, self._first_shard, limit))
        partitions = work.partitions
        return Plan(
            generation=generation,
            request_digest=digest(run.request),
            partitions=planning.write_partitions(run.store, layout.plan_folder(generation), partitions),
            first_shard=self._first_shard,
            shards=len(partitions),
            blocks=partitions[-1].block + 1 if partitions else 0,
            items=sum(partition.items for partition in partitions),
            rows=sum(partition.rows for partition in partitions),
            index_key=str(key),
            containers=self._write_containers(skippable),
            removed=work.removed,
            changes=work.changes,
        )

    def _index(self, rows: int, base: Generation | None) -> tuple[IndexKey, int]:
        """Returns the index that is to be made, or that is there, and how many rows a block may have."""
        run, dim = self._run, self._run.request.encoder.dim
        if base is None:
            # Here, and nowhere else, a person is warned that the key became another one.
            key = choose(run.request.index, rows, dim)
        else:
            key, rows = IndexKey.parse(base.trained.key), rows + base.totals.vectors
        load = Workload(
            key,
            run.request.index.metric,
            rows,
            dim,
            normalized=run.request.encoder.normalize,
            object_store=run.store.local is None,
        )
        check_worker_memory(load, self._worker_memory)
        return key, load.block_rows

    def _ready_changes(self, base: Generation, files: Sequence[ReadyFile], limit: int) -> _Work:
        """Compares files of ready embeddings with those of a generation: each is the same, or new, or gone, as a whole.

        `vectors` of a file that was not opened is one of the ranges that are known of it.
        """
        dead = tombstones.read_all(self._store, base.tables.tombstones)
        counts = dead.count_by_shard
        known: dict[str, list[tuple[ShardMarker, VectorRange]]] = {}
        for marker in tables.shards_of(self._store, base):
            if marker.ready and counts.get(marker.shard, 0) < marker.numbered_rows:
                known.setdefault(marker.ready.uri, []).append((marker, marker.ready))
        fresh: list[VectorRange] = []
        found = dict.fromkeys(Changes.__dataclass_fields__, 0)
        for file in files:
            stands = known.get(file.vectors.uri)
            if stands and _is_same_file(stands[0][1], file.vectors):
                found["unchanged"] += sum(marker.rows for marker, _ in stands)
                found["rejected"] += sum(marker.rejected for marker, _ in stands)
                del known[file.vectors.uri]
            else:
                found["changed" if stands else "new"] += file.vectors.stop
                fresh.append(file.vectors)
        removed = [(marker.shard, ready) for stands in known.values() for marker, ready in stands]
        uris = {file.vectors.uri for file in files}
        found["gone"] = sum(ready.stop - ready.start for _, ready in removed if ready.uri not in uris)
        entries = [key_tables.whole_shard(shard, ready.stop - ready.start) for shard, ready in sorted(removed)]
        table = None
        if entries:
            folder = layout.removed_folder(self._run.generation)
            file_of_all = key_tables.write_entries(self._run.store, key_tables.joined(entries), folder)
            table = self._write_removed([BucketChanges(0, 0, changes.NO_CHANGES, file_of_all)])
        return _Work(planning.cut_ready(fresh, self._first_shard, limit), Changes(**found), table)

    def _write_removed(self, buckets: Sequence[BucketChanges]) -> FileReference:
        rows = [
            {"bucket": bucket.number, "bits": bucket.bits, **dataclasses.asdict(bucket.removed)}
            for bucket in sorted(buckets, key=lambda bucket: bucket.number)
            if bucket.removed is not None
        ]
        folder = layout.removed_folder(self._run.generation)
        return parquet_files.write_table(self._run.store, pa.Table.from_pylist(rows, schema=_REMOVED), folder=folder)

    def _write_containers(self, skippable: Sequence[SkippableFile]) -> FileReference | None:
        rows = sorted({(file.uri, file.version) for file in skippable})
        if not rows:
            return None
        columns = [{"uri": uri, "version": version} for uri, version in rows]
        folder = layout.plan_folder(self._run.generation)
        return parquet_files.write_table(
            self._run.store, pa.Table.from_pylist(columns, schema=_CONTAINERS), folder=folder
        )


def _is_same_file(one: VectorRange, other: VectorRange) -> bool:
    """Tells whether two ranges are of one file in one version."""
    return dataclasses.replace(one, start=0, stop=0) == dataclasses.replace(other, start=0, stop=0)
