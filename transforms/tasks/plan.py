"""Makes the plan of a run out of what was listed: the index, the partitions, what is removed, and their tables."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from transforms.derivation import RootPart
from transforms.digests import digest
from transforms.errors import PixdexError, UsageError
from transforms.forecast.memory import check_worker_memory
from transforms.forecast.workload import Workload
from transforms.generations import key_tables, tables
from transforms.index.choose import choose
from transforms.index.index_key import IndexKey
from transforms.records import Changes, FileReference, Partition, Plan
from transforms.runs import partitions as planning
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources import left_out
from transforms.sources.ready import vectors
from transforms.sources.ready.vectors import ReadyFile
from transforms.storage import layout, parquet_files
from transforms.tasks import changes, losses, ready_changes
from transforms.tasks.changes import BucketChanges
from transforms.tasks.derive import planned
from transforms.tasks.listing import Beside, SkippableFile
from transforms.tasks.losses import KnownItems
from transforms.tasks.ready_changes import ReadyChanges

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


@dataclass(frozen=True)
class Refusal:
    """Why a night would be stopped before anything is embedded; a dry run goes on, and says it."""

    why: str


def commit_plan(
    run: Run,
    first_shard: int,
    worker_memory: int | None,
    max_gone_ratio: float,
    listed: Sequence[Listing | ReadyFile | RootPart],
    compared: Sequence[BucketChanges],
    skippable: Sequence[SkippableFile],
    beside: Sequence[Beside] = (),
) -> None:
    """Makes and commits the plan of a run, unless it is there.

    Args:
        run: the run.
        first_shard: the number of its first shard.
        worker_memory: bytes that a worker has; None: those of this machine.
        max_gone_ratio: share of a source's items that may be gone, 0 to 1.
        listed: everything that the sources have, or, of a reindex, what is new or changed; of another root its parts.
        compared: what became of every hash bucket.
        skippable: files whose items are all the same while their versions are.
        beside: what lies beside the items.

    Raises:
        UsageError: a key names two items; nothing is there to index; a worker could not make the index; a source lost
            more of its items than it may; of a first build, `--key-pattern` matches no picture of a source.
        PixdexError: another build of the root gave the run up.
    """
    store, generation = run.store, run.generation
    if not store.exists(layout.plan(generation)):
        if repeated := [bucket.repeated for bucket in compared if bucket.repeated]:
            raise UsageError(f"{min(repeated)}: a key names one item; rename one, or choose another --key-column")
        if run.base is None:
            _check_named(run, beside)
        containers = _write_containers(run, skippable, beside)
        plan = _plan(run, first_shard, worker_memory, max_gone_ratio, listed, compared, containers)
        store.commit(layout.plan(generation), plan)
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
    max_gone_ratio: float,
    listed: Sequence[Listing | ReadyFile | RootPart],
    compared: Sequence[BucketChanges],
    containers: FileReference | None,
) -> Plan:
    """Chooses the index, cuts everything into partitions, and writes their table."""
    base = run.base
    listings = [listing for listing in listed if isinstance(listing, Listing)]
    files = sorted((file for file in listed if isinstance(file, ReadyFile)), key=lambda file: (file.source, file.place))
    vectors.check_dimension(files, run.request.encoder.dim)
    ready = None
    if base is not None and files:
        ready = ready_changes.compare(ready_changes.live_ranges(run), files, run.request.sources)
    if base is not None:
        known = ready.sources if ready is not None else losses.of_buckets(run, compared, max_gone_ratio)
        _check_losses(run, max_gone_ratio, known)
    counted = changes.total(bucket.changes for bucket in compared)
    counts = [chunk for listing in listings for chunk in listing.chunks]
    # Of a file that the generation has already, no header was read.
    counts += [(file.vectors.items, file.vectors.rows) for file in files if file.dim is not None]
    derived = _derived(run, listed)
    counts += [(planned.made_of(parts),) * 2 for parts in derived]
    stays = counted.unchanged + counted.rejected + sum(file.dim is None and file.vectors.stop for file in files)
    planning.check_not_empty(sum(count for count, _ in counts) + stays, ready=bool(files))
    key, limit = _index(run, sum(count for _, count in counts), worker_memory)
    if ready is not None:
        work = _ready_work(run, ready, first_shard, limit)
    elif derived:
        work = _Work(planning.cut_root(derived, first_shard, limit))
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


def _derived(run: Run, listed: Sequence[Listing | ReadyFile | RootPart]) -> list[tuple[RootPart, ...]]:
    """What each shard is made of, where a run makes one root of another."""
    derivation = run.request.derivation
    if derivation is None:
        return []
    return planned.shards_of(derivation, [part for part in listed if isinstance(part, RootPart)])


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


def _check_losses(run: Run, ratio: float, known: KnownItems) -> None:
    """Refuses to go on where a source lost too much; a dry run notes it, and goes on."""
    why = losses.refusal(run, ratio, known)
    if why is not None and run.base_root is None:
        raise UsageError(why)
    if why is not None:
        run.store.commit(layout.refusal(run.generation), Refusal(why))


def _ready_work(run: Run, ready: ReadyChanges, first_shard: int, limit: int) -> _Work:
    """Cuts the files that are new or changed, and writes the entries of all shards whose files changed or left."""
    table = None
    if ready.removed:
        entries = [key_tables.whole_shard(part.shard, part.ready.rows) for part in ready.removed]
        folder = layout.removed_folder(run.generation)
        file_of_all = key_tables.write_entries(run.store, key_tables.joined(entries), folder)
        table = _write_removed(run, [BucketChanges(0, 0, changes.NO_CHANGES, file_of_all)])
    return _Work(planning.cut_ready(ready.fresh, first_shard, limit), ready.counts, table)


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
    if not skippable and not beside:
        return None
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
