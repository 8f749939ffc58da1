"""Makes the plan of a run out of what was listed: the index, the partitions, what is removed, and their tables."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from transforms.errors import PixdexError, UsageError
from transforms.forecast.memory import check_worker_memory
from transforms.forecast.workload import Workload
from transforms.generations import key_tables, tables, tombstones
from transforms.generations.manifest import Generation
from transforms.index.choose import choose
from transforms.index.index_key import IndexKey
from transforms.markers import ShardMarker
from transforms.records import Changes, FileReference, Partition, Plan, VectorRange, digest
from transforms.runs import partitions as planning
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources import left_out, vectors
from transforms.sources.vectors import ReadyFile
from transforms.storage import layout, parquet_files
from transforms.tasks import changes
from transforms.tasks.changes import BucketChanges
from transforms.tasks.listing import Beside, SkippableFile

_REMOVED = pa.schema(
    [
        *((name, pa.int64()) for name in ("bucket", "bits")),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
    ]
)


@dataclass(frozen=True)
class _Work:
    """What is to be embedded, what is dead, and how that was counted."""

    partitions: list[Partition]
    changes: Changes | None = None
    removed: FileReference | None = None


def commit_plan(
    run: Run,
    first_shard: int,
    worker_memory: int | None,
    listed: Sequence[Listing | ReadyFile],
    compared: Sequence[BucketChanges],
    skippable: Sequence[SkippableFile],
    beside: Sequence[Beside] = (),
) -> None:
    """Makes and commits the plan of a run, unless it is there.

    Args:
        run: the run.
        first_shard: the number of its first shard.
        worker_memory: bytes that a worker has; None: those of this machine.
        listed: everything that the sources have, or, of a reindex, what is new or changed.
        compared: what became of every hash bucket.
        skippable: files whose items are all the same while their versions are.
        beside: what lies beside the items.

    Raises:
        UsageError: a key names two items; nothing is there to index; a worker could not make the index; of a first
            build, `--key-pattern` matches no picture of a source.
        PixdexError: another build of the root gave the run up.
    """
    store, generation = run.store, run.generation
    if not store.exists(layout.plan(generation)):
        if repeated := [bucket.repeated for bucket in compared if bucket.repeated]:
            raise UsageError(f"{min(repeated)}: a key names one item; rename one, or choose another --key-column")
        if run.base is None:
            _check_named(run, beside)
        containers = _write_containers(run, skippable, beside)
        store.commit(layout.plan(generation), _plan(run, first_shard, worker_memory, listed, compared, containers))
    # Asked after the commit: whoever gives the run up either counts this plan's numbers or is seen here.
    if store.exists(layout.abandoned(generation)):
        raise PixdexError(
            f"{store.url}: the run of generation {generation} was given up by another build of this root: "
            "wait for that one, then run again"
        )


def _plan(
    run: Run,
    first_shard: int,
    worker_memory: int | None,
    listed: Sequence[Listing | ReadyFile],
    compared: Sequence[BucketChanges],
    containers: FileReference | None,
) -> Plan:
    """Chooses the index, cuts everything into partitions, and writes their table."""
    base = run.base
    listings = [listing for listing in listed if isinstance(listing, Listing)]
    files = sorted((file for file in listed if isinstance(file, ReadyFile)), key=lambda file: (file.source, file.place))
    vectors.check_dimension(files, run.request.encoder.dim)
    counted = changes.total(bucket.changes for bucket in compared)
    counts = [chunk for listing in listings for chunk in listing.chunks]
    # Of a file that the generation has already, no header was read.
    counts += [(file.vectors.stop, file.vectors.stop) for file in files if file.dim is not None]
    stays = counted.unchanged + counted.rejected + sum(file.dim is None and file.vectors.stop for file in files)
    planning.check_not_empty(sum(count for count, _ in counts) + stays, ready=bool(files))
    key, limit = _index(run, sum(count for _, count in counts), worker_memory)
    if base is not None and files:
        work = _ready_changes(run, base, files, first_shard, limit)
    elif files:
        work = _Work(planning.cut_ready([file.vectors for file in files], first_shard, limit))
    elif base is not None:
        removed = [bucket for bucket in compared if bucket.removed]
        table = _write_removed(run, removed) if removed else None
        work = _Work(planning.cut(listings, first_shard, limit), counted, table)
    else:
        work = _Work(planning.cut(listings, first_shard, limit))
    partitions = work.partitions
    return Plan(
        generation=run.generation,
        request_digest=digest(run.request),
        partitions=planning.write_partitions(run.store, layout.plan_folder(run.generation), partitions),
        first_shard=first_shard,
        shards=len(partitions),
        blocks=partitions[-1].block + 1 if partitions else 0,
        items=sum(partition.items for partition in partitions),
        rows=sum(partition.rows for partition in partitions),
        index_key=str(key),
        containers=containers,
        removed=work.removed,
        changes=work.changes,
    )


def _index(run: Run, rows: int, worker_memory: int | None) -> tuple[IndexKey, int]:
    """Returns the index that is to be made, or that is there, and how many rows a block may have."""
    base, dim = run.base, run.request.encoder.dim
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
    check_worker_memory(load, worker_memory)
    return key, load.block_rows


def _ready_changes(run: Run, base: Generation, files: Sequence[ReadyFile], first_shard: int, limit: int) -> _Work:
    """Compares files of ready embeddings with those of a generation: each is the same, or new, or gone, as a whole.

    `vectors` of a file that was not opened is one of the ranges that are known of it.
    """
    dead = tombstones.read_all(run.base_store, base.tables.tombstones)
    counts = dead.count_by_shard
    known: dict[str, list[tuple[ShardMarker, VectorRange]]] = {}
    for marker in tables.shards_of(run.base_store, base):
        if marker.ready and counts.get(marker.shard, 0) < marker.numbered_rows:
            known.setdefault(marker.ready.uri, []).append((marker, marker.ready))
    fresh: list[VectorRange] = []
    counted = dict.fromkeys(Changes.__dataclass_fields__, 0)
    for file in files:
        ranges = known.get(file.vectors.uri)
        if ranges and _is_same_file(ranges[0][1], file.vectors):
            counted["unchanged"] += sum(marker.rows for marker, _ in ranges)
            counted["rejected"] += sum(marker.rejected for marker, _ in ranges)
            del known[file.vectors.uri]
        else:
            counted["changed" if ranges else "new"] += file.vectors.stop
            fresh.append(file.vectors)
    removed = [(marker.shard, ready) for ranges in known.values() for marker, ready in ranges]
    uris = {file.vectors.uri for file in files}
    counted["gone"] = sum(ready.stop - ready.start for _, ready in removed if ready.uri not in uris)
    entries = [key_tables.whole_shard(shard, ready.stop - ready.start) for shard, ready in sorted(removed)]
    table = None
    if entries:
        folder = layout.removed_folder(run.generation)
        file_of_all = key_tables.write_entries(run.store, key_tables.joined(entries), folder)
        table = _write_removed(run, [BucketChanges(0, 0, changes.NO_CHANGES, file_of_all)])
    return _Work(planning.cut_ready(fresh, first_shard, limit), Changes(**counted), table)


def _write_removed(run: Run, buckets: Sequence[BucketChanges]) -> FileReference:
    rows = [
        {"bucket": bucket.number, "bits": bucket.bits, **dataclasses.asdict(bucket.removed)}
        for bucket in sorted(buckets, key=lambda bucket: bucket.number)
        if bucket.removed is not None
    ]
    folder = layout.removed_folder(run.generation)
    return parquet_files.write_table(run.store, pa.Table.from_pylist(rows, schema=_REMOVED), folder=folder)


def _check_named(run: Run, beside: Sequence[Beside]) -> None:
    for number, source in enumerate(run.request.sources):
        of_source = [part for part in beside if part.source == number]
        unnamed = sum(part.unnamed for part in of_source)
        if unnamed and not any(part.named for part in of_source):
            raise UsageError(
                f"--key-pattern {source.key_pattern} matches none of the {unnamed} names of --images {source.pattern}: "
                "it has to match the whole name of a file, without its folder and its ending"
            )


def _write_containers(run: Run, skippable: Sequence[SkippableFile], beside: Sequence[Beside]) -> FileReference | None:
    counts: dict[int, Counter[str]] = {}
    unnamed: Counter[int] = Counter()
    for part in beside:
        counts.setdefault(part.source, Counter()).update(dict(part.left_out))
        unnamed[part.source] += part.unnamed
    patterns = [source.pattern for source in run.request.sources]
    rows = tables.container_rows(
        versions=sorted({(file.uri, file.version) for file in skippable}),
        left_out={patterns[number]: left_out.most(kinds) for number, kinds in sorted(counts.items())},
        unnamed={patterns[number]: count for number, count in sorted(unnamed.items()) if count},
    )
    return parquet_files.write_table(run.store, rows, folder=layout.plan_folder(run.generation)) if len(rows) else None


def _is_same_file(one: VectorRange, other: VectorRange) -> bool:
    """Tells whether two ranges are of one file in one version."""
    return dataclasses.replace(one, start=0, stop=0) == dataclasses.replace(other, start=0, stop=0)
