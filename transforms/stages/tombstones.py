"""Tombstones of a run: rows of items that are gone, or came anew, become dead; and their rejects are forgotten."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import PCollection
from numpy.typing import NDArray

from transforms.generations import key_tables, tables, tombstones
from transforms.generations.key_tables import Bucket
from transforms.generations.tombstones import Tombstones
from transforms.markers import RejectsFile, StageMarker, TombstonesMarker
from transforms.records import ROW_BITS, FileReference, digest
from transforms.runs.run import Run
from transforms.shards import files as shards
from transforms.stages.barrier import FinishStage
from transforms.storage import layout, parquet_files

_FOLDER_IDS = np.int64(layout.FOLDER_SIZE << ROW_BITS)


@dataclass(eq=False)
class BuryRows(beam.PTransform):
    """Writes the tombstones of every folder of shards that lost rows; a first build has none.

    Cost: reads the entries that the plan removes and shuffles 8 bytes a dead row. Memory of a worker is 8 KiB for each
    of the 4,096 shards of a folder.
    """

    run: Run

    def expand(self, keyed: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the stage of key tables."""
        return (
            keyed
            | "RemovedFiles" >> beam.ParDo(_RemovedFiles(self.run))
            # Breaks the fusion with the one reader of the plan: files are read on all workers.
            | "SpreadFiles" >> beam.Reshuffle()
            | "DeadRows" >> beam.ParDo(_DeadRows(self.run))
            | "ByFolder" >> beam.GroupByKey()
            | "WriteTombstones" >> beam.ParDo(_WriteTombstones(self.run))
            | "TombstonesDone" >> FinishStage(self.run, "tombstones")
        )


@dataclass(frozen=True)
class _Dead:
    """Some dead rows of a folder: their ids as bytes of int64; and entries of rejects that are to be forgotten."""

    ids: bytes
    rejects: bytes


class _RemovedFiles(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, keyed: StageMarker) -> Iterator[Bucket]:
        if self._run.stage_marker("tombstones") is None:
            yield from tables.removed_of(self._run.store, self._run.plan)


class _DeadRows(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, bucket: Bucket) -> Iterator[tuple[int, _Dead]]:
        entries = key_tables.read_entries(self._run.store, bucket.file)
        ids = key_tables.dead_ids(entries)
        rejected = entries[entries["reject"] != 0]
        folders, of_rejects = ids // _FOLDER_IDS, rejected["shard"] // layout.FOLDER_SIZE
        for folder in np.union1d(folders, of_rejects).tolist():
            yield folder, _Dead(ids[folders == folder].tobytes(), rejected[of_rejects == folder].tobytes())


class _WriteTombstones(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, folder: tuple[int, Iterable[_Dead]]) -> Iterator[int]:
        number, parts = folder
        run, base = self._run, self._run.base
        assert base is not None and run.plan.removed is not None
        answered = digest(number, base.tables.tombstones, base.tables.rejects, run.plan.removed)
        if run.marker("tombstones", number, TombstonesMarker, answered) is None:
            found = list(parts)
            ids = np.concatenate([np.frombuffer(part.ids, np.int64) for part in found])
            rejected = key_tables.joined([np.frombuffer(part.rejects, key_tables.ENTRY) for part in found])
            dead = Tombstones.joined([self._before(number), Tombstones.of(ids)])
            marker = TombstonesMarker(
                number, answered, dead.rows, tombstones.write(run.store, dead), tuple(self._forget(rejected))
            )
            run.commit("tombstones", number, marker)
        yield number

    def _before(self, folder: int) -> Tombstones:
        base = self._run.base
        if base is None or base.tables.tombstones is None:
            return Tombstones()
        files = tables.tombstones_of(self._run.store, base)
        return tombstones.read(self._run.store, files[folder][1]) if folder in files else Tombstones()

    def _forget(self, rejected: NDArray[np.void]) -> Iterator[RejectsFile]:
        """Leaves rejects out of the files that have them."""
        store, base = self._run.store, self._run.base
        if base is None or not len(rejected):
            return
        known = parquet_files.read(store, base.tables.rejects).to_pylist()
        files = {row["shard"]: (row["rejected"], tables.file_of(row)) for row in known}
        for shard in np.unique(rejected["shard"]).tolist():
            if shard not in files:
                continue
            (count, file), gone = files[shard], rejected[rejected["shard"] == shard]
            # A file of which nothing stays may be damaged.
            yield RejectsFile(shard, 0, None) if len(gone) == count else self._without(shard, file, gone)

    def _without(self, shard: int, file: FileReference, rejected: NDArray[np.void]) -> RejectsFile:
        store = self._run.store
        rows = shards.read_rejects(store, file)
        known = np.zeros(len(rows), key_tables.ENTRY)
        known["high"], known["low"] = key_tables.hashes(rows["key"].combine_chunks()).T
        left = rows.filter(pa.array(~key_tables.is_among(known, rejected)))
        written = shards.write_reject_table(store, shard, left) if len(left) else None
        return RejectsFile(shard, len(left), written)
