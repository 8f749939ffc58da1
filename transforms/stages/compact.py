"""Drops dead rows from shard indexes, before all of them are merged anew."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.generations.tables import BlockMember
from transforms.markers import StageMarker
from transforms.runs import beacons, inventory
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.tasks.compact import compact_block


@dataclass(eq=False)
class CompactBlocks(beam.PTransform):
    """Rewrites every shard index of the base that has dead rows, where the run merges all; each is a task.

    Cost: reads these shard indexes and writes what lives of them. Memory of a worker is one of them (at most 512 MiB),
    four times.
    """

    run: Run

    def expand(self, added: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the add stage."""
        return (
            added
            | "BlocksToCompact" >> beam.ParDo(_BlocksToCompact(self.run))
            # Breaks the fusion with the one planner: blocks are compacted on all workers.
            | "SpreadBlocks" >> beam.Reshuffle()
            | "CompactBlock" >> beam.ParDo(_CompactBlock(self.run))
            | "CompactDone" >> FinishStage(self.run, "compact")
        )


class _BlocksToCompact(RunTask):
    def process(self, added: StageMarker) -> Iterator[tuple[int, BlockMember]]:
        yield from inventory.to_compact(self._run)


class _CompactBlock(RunTask):
    def process(self, place: tuple[int, BlockMember]) -> Iterator[int]:
        number, block = place
        with beacons.lit(self._run, "compact", number):
            compact_block(self._run, number, block)
        yield number
