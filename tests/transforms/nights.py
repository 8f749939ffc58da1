"""Nights that are planned in this process: no Beam, no encoder, and a first generation that is written by hand."""

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.transforms.embedded import SETTINGS
from transforms.derivation import RootPart
from transforms.generations import key_tables, manifest, tables, tombstones
from transforms.generations.key_tables import KeyBatch
from transforms.generations.manifest import Generation, Tables, Totals
from transforms.generations.tombstones import Tombstones
from transforms.markers import KeysMarker, RejectsFile, ShardMarker, TrainedIndex
from transforms.ready_range import VectorRange
from transforms.records import (
    FileReference,
    IndexSettings,
    ItemSlice,
    Partition,
    Plan,
    Reindex,
    Request,
    Source,
    row_ids,
)
from transforms.runs import beginning, partitions
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.shards import files
from transforms.shards.files import Reject
from transforms.sources import items
from transforms.sources.ready.vectors import ReadyFile
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store
from transforms.tasks import changes
from transforms.tasks.changes import BucketChanges, ChosenItems
from transforms.tasks.keys import shard_entries
from transforms.tasks.listing import Beside, BucketRecords, Lister, SkippableFile, containers_of
from transforms.tasks.plan import commit_plan

SHARDS = 2
NOTHING = FileReference("nothing", 1, f"sha256:{0:064}")


def begin_night(root: Path, reindex: Reindex | None = None) -> Run:
    """Begins a reindex of the current generation; one that is unfinished is given up."""
    store = Store.at(str(root))
    if (unfinished := beginning.unfinished(store)) is not None:
        beginning.abandon(unfinished)
    base = manifest.read(store, 1)
    return beginning.begin(store, replace(base.request, reindex=reindex or Reindex(1)))


def plan(run: Run, max_gone_ratio: float = 1.0) -> Plan:
    """Lists, compares and plans as the first stage does, in two buckets."""
    bits = 1
    listed, skippable = _listed(run, bits)
    listings: list[Listing | ReadyFile] = [one for one, _ in listed]
    by_bucket: dict[int, list[KeyBatch]] = defaultdict(list)
    for _, records in listed:
        for record in records:
            by_bucket[record.bucket].append(record.batch)
    compared: list[BucketChanges] = []
    if run.base is not None and not run.request.is_ready:
        chosen: dict[str, list[bytes]] = defaultdict(list)
        for number in range(1 << bits):
            for found in changes.compare_bucket(run, bits, number, by_bucket[number], skippable, []):
                if isinstance(found, ChosenItems):
                    chosen[found.table].append(found.records)
                else:
                    compared.append(found)
        listings = [
            selected
            for one in listings
            if isinstance(one, Listing)
            for selected in changes.select_items(run, [one], chosen[one.table.path])
        ]
    commit_plan(run, 100, None, max_gone_ratio, listings, compared, skippable, [])
    return run.plan


def publish(
    root: Path, sources: tuple[Source, ...], is_bad: Callable[[str], bool], dead: Collection[int] = ()
) -> list[ShardMarker]:
    """Publishes a first generation of what the sources list now, in which items of bad keys were rejected.

    Of ready embeddings a key is that of a row. Rows of shards that are `dead` have tombstones.
    """
    store = Store.at(str(root))
    run = beginning.begin(store, Request(sources, SETTINGS, IndexSettings()))
    listed, skippable = _listed(run, 0)
    ready = sorted((one for one, _ in listed if isinstance(one, ReadyFile)), key=lambda file: (file.source, file.place))
    if ready:
        markers = [_ready_shard(part.ready, part.shard, is_bad) for part in _cut(ready)]
    else:
        rows = [
            row
            for one, _ in listed
            if isinstance(one, Listing)
            for row in items.read(store, ItemSlice(one.table, 0, sum(count for count, _ in one.chunks))).to_pylist()
        ]
        markers = [_shard(store, shard, rows[shard::SHARDS], is_bad) for shard in range(SHARDS)]
    entries = key_tables.sort(key_tables.joined([shard_entries(store, marker, sources) for marker in markers]))
    keys = None
    if not ready:
        keys = tables.write_keys(store, [_keys_marker(store, entries)])
    rejects = {marker.shard: RejectsFile(marker.shard, marker.rejected, marker.rejects) for marker in markers}
    tombstone_files = {}
    if dead:
        ids = np.concatenate(
            [row_ids(marker.shard, marker.numbered_rows) for marker in markers if marker.shard in dead]
        )
        tombstone_files = {0: (len(ids), tombstones.write(store, Tombstones.of(ids)))}
    generation = Generation(
        generation=1,
        request=run.request,
        request_digest="0" * 64,
        totals=Totals(*(sum(marker.items for marker in markers),) * 2, 0, 10, 0, 10, 0, 0, len(markers), 1),
        trained=TrainedIndex("t", "IVF1,Flat", "ip", SETTINGS.dim, 1, 64, 1, NOTHING, NOTHING),
        index=NOTHING,
        tables=Tables(
            shards=tables.write_shards(store, markers),
            blocks=tables.write_blocks(store, []),
            segments=tables.write_segments(store, []),
            rejects=tables.write_rejects(store, rejects),
            tombstones=tables.write_tombstones(store, tombstone_files),
            keys=keys,
            containers=_containers(store, skippable),
        ),
        next_shard=100,
    )
    store.commit(layout.generation(1), manifest.seal(generation))
    return markers


def _listed(run: Run, bits: int) -> tuple[list[tuple[Listing | ReadyFile, list[BucketRecords]]], list[SkippableFile]]:
    """Lists all containers: each listing with the records of its items, and files that need not be opened."""
    lister = Lister(run, bits)
    listed: list[tuple[Listing | ReadyFile, list[BucketRecords]]] = []
    skippable: list[SkippableFile] = []
    for container in containers_of(run):
        records: list[BucketRecords] = []
        for one in lister.list(container):
            if isinstance(one, BucketRecords):
                records.append(one)
            elif isinstance(one, SkippableFile):
                skippable.append(one)
            elif not isinstance(one, Beside | RootPart):
                listed.append((one, records))
                records = []
    return listed, skippable


def _cut(ready: list[ReadyFile]) -> list[Partition]:
    return partitions.cut_ready([file.vectors for file in ready], 0, 1 << 20)


def _ready_shard(ready: VectorRange | None, shard: int, is_bad: Callable[[str], bool]) -> ShardMarker:
    assert ready is not None
    count = ready.stop - ready.start
    bad = sum(is_bad(f"{ready.uri}#{row}") for row in range(ready.start, ready.stop))
    return ShardMarker(shard, 0, "", count, bad, count - bad, count - bad, 0, 0, None, None, 0.0, ready)


def _shard(store: Store, shard: int, rows: list[dict[str, str]], is_bad: Callable[[str], bool]) -> ShardMarker:
    good = sorted((row for row in rows if not is_bad(row["key"])), key=lambda row: row[items.IMAGE] is None)
    bad = [row for row in rows if is_bad(row["key"])]
    images = sum(row[items.IMAGE] is not None for row in good)
    table = pa.table(
        {
            **{name: pa.array([row[name] for row in good], pa.string()) for name in ("key", "uri")},
            "modality": pa.array(["image"] * images + ["text"] * (len(good) - images), pa.string()),
            "part": pa.array([0] * len(good), pa.int32()),
            "caption": pa.nulls(len(good), pa.string()),
            "version": pa.array([row["version"] for row in good], pa.string()),
            "width": pa.nulls(len(good), pa.int32()),
            "height": pa.nulls(len(good), pa.int32()),
        }
    )
    vectors = np.zeros((len(good), SETTINGS.dim), np.float32)
    rejects = [Reject(row["key"], row["uri"], row["version"], None, None, "fetch", "Bad", "it is bad") for row in bad]
    return ShardMarker(
        shard, 0, "", len(rows), len(bad), len(good), images, len(good) - images, 0,
        files.write_embeddings(store, shard, table, vectors) if good else None,
        files.write_rejects(store, shard, rejects), 0.0,
    )  # fmt: skip


def _keys_marker(store: Store, entries: np.ndarray[tuple[int], np.dtype[np.void]]) -> KeysMarker:
    rejected = int(np.count_nonzero(entries["reject"]))
    return KeysMarker(0, "", len(entries), rejected, 10, 0, 0, key_tables.write_entries(store, entries))


def _containers(store: Store, skippable: list[SkippableFile]) -> FileReference | None:
    if not skippable:
        return None
    rows = [{"uri": file.uri, "version": file.version} for file in skippable]
    return parquet_files.write_table(store, pa.Table.from_pylist(rows))
