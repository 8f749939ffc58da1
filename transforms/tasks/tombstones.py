"""Tombstones of one folder of shards: its dead rows, and the rejects that are forgotten."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.digests import digest
from transforms.generations import key_tables, tables, tombstones
from transforms.generations.key_tables import Bucket
from transforms.generations.tombstones import Tombstones
from transforms.markers import RejectsFile, TombstonesMarker
from transforms.records import ROW_BITS, FileReference
from transforms.runs.run import Run
from transforms.shards import files as shards
from transforms.storage import layout, parquet_files

_FOLDER_IDS: Final = np.int64(layout.FOLDER_SIZE << ROW_BITS)


@dataclass(frozen=True)
class Dead:
    """Some dead rows of a folder: their ids as bytes of int64; and entries of rejects that are to be forgotten."""

    ids: bytes
    rejects: bytes


def dead_rows(run: Run, bucket: Bucket) -> Iterator[tuple[int, Dead]]:
    """Yields by folder of shards what died of a hash bucket that the plan removes."""
    entries = key_tables.read_entries(run.store, bucket.file)
    ids = key_tables.dead_ids(entries)
    rejected = entries[entries["reject"] != 0]
    folders, of_rejects = ids // _FOLDER_IDS, rejected["shard"] // layout.FOLDER_SIZE
    for folder in np.union1d(folders, of_rejects).tolist():
        yield folder, Dead(ids[folders == folder].tobytes(), rejected[of_rejects == folder].tobytes())


def write_tombstones(run: Run, folder: int, dead: Iterable[Dead]) -> None:
    """Makes and commits the tombstones of a folder: those of the base and what died since."""
    base = run.base
    assert base is not None and run.plan.removed is not None
    task_digest = digest(folder, base.tables.tombstones, base.tables.rejects, run.plan.removed)
    if run.marker("tombstones", folder, TombstonesMarker, task_digest) is not None:
        return
    parts = list(dead)
    ids = np.concatenate([np.frombuffer(part.ids, np.int64) for part in parts])
    rejected = key_tables.joined([np.frombuffer(part.rejects, key_tables.ENTRY) for part in parts])
    all_dead = Tombstones.joined([_before(run, folder), Tombstones.of(ids)])
    file, rejects = tombstones.write(run.store, all_dead), tuple(_forget(run, rejected))
    run.commit("tombstones", folder, TombstonesMarker(folder, task_digest, all_dead.rows, file, rejects))


def _before(run: Run, folder: int) -> Tombstones:
    base = run.base
    if base is None or base.tables.tombstones is None:
        return Tombstones()
    files = tables.tombstones_of(run.store, base)
    return tombstones.read(run.store, files[folder][1]) if folder in files else Tombstones()


def _forget(run: Run, rejected: NDArray[np.void]) -> Iterator[RejectsFile]:
    """Leaves rejects out of the files that have them."""
    store, base = run.store, run.base
    if base is None or not len(rejected):
        return
    known = parquet_files.read(store, base.tables.rejects).to_pylist()
    files = {row["shard"]: (row["rejected"], tables.file_of(row)) for row in known}
    for shard in np.unique(rejected["shard"]).tolist():
        if shard not in files:
            continue
        (count, file), gone = files[shard], rejected[rejected["shard"] == shard]
        # A file of which nothing stays may be damaged.
        yield RejectsFile(shard, 0, None) if len(gone) == count else _without(run, shard, file, gone)


def _without(run: Run, shard: int, file: FileReference, rejected: NDArray[np.void]) -> RejectsFile:
    store = run.store
    rows = shards.read_rejects(store, file)
    known = np.zeros(len(rows), key_tables.ENTRY)
    known["high"], known["low"] = key_tables.hashes(rows["key"].combine_chunks()).T
    left = rows.filter(pa.array(~key_tables.is_among(known, rejected)))
    written = shards.write_reject_table(store, shard, left) if len(left) else None
    return RejectsFile(shard, len(left), written)
