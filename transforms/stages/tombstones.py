"""Tombstones of a run: rows of items that are gone, or came anew, become dead; and their rejects are forgotten."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.generations import tables
from transforms.generations.key_tables import Bucket
from transforms.markers import StageMarker
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.tasks.tombstones import Dead, dead_rows, write_tombstones


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


class _RemovedFiles(RunTask):
    def process(self, keyed: StageMarker) -> Iterator[Bucket]:
        if self._run.stage_marker("tombstones") is None and not inventory.is_idle(self._run):
            yield from tables.removed_of(self._run.store, self._run.plan)


class _DeadRows(RunTask):
    def process(self, bucket: Bucket) -> Iterator[tuple[int, Dead]]:
        yield from dead_rows(self._run, bucket)


class _WriteTombstones(RunTask):
    def process(self, folder: tuple[int, Iterable[Dead]]) -> Iterator[int]:
        number, dead = folder
        write_tombstones(self._run, number, dead)
        yield number
