"""The add stage: every block of shards becomes one shard index, lists only."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.utils.shared import Shared

from transforms.index.open_trained import OpenTrained
from transforms.markers import StageMarker
from transforms.records import Block
from transforms.runs import beacons, inventory
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.tasks.add import add_block, opened_to_add


@dataclass(eq=False)
class AddBlocks(beam.PTransform):
    """Assigns and encodes every block in parallel; the trained index is opened once a process and never copied.

    Cost: reads every shard once and writes its codes and ids. Memory of a worker is the trained index (its
    centroids are mapped where the root is a filesystem), the codes of one block and 32 bytes a row of it, and about
    200 MB of batches.
    """

    run: Run

    def expand(self, trained: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the train stage."""
        return (
            trained
            | "BlocksToAdd" >> beam.ParDo(_BlocksToAdd(self.run))
            # Breaks the fusion with the one reader of the plan: blocks are added on all workers.
            | "SpreadBlocks" >> beam.Reshuffle()
            | "AddBlock" >> beam.ParDo(_AddBlock(self.run))
            | "AddDone" >> FinishStage(self.run, "add")
        )


class _BlocksToAdd(RunTask):
    def process(self, trained: StageMarker) -> Iterator[Block]:
        yield from inventory.blocks_to_add(self._run)


class _AddBlock(RunTask):
    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._shared = Shared()
        self._added = Metrics.counter("pixdex", "added_rows")

    def process(self, block: Block) -> Iterator[int]:
        with beacons.lit(self._run, "add", block.number) as told:
            marker = add_block(self._run, block, self._opened, told)
        if marker is not None:
            self._added.inc(marker.rows)
        yield block.number

    def _opened(self) -> OpenTrained:
        run = self._run
        fingerprint = run.trained().trained.fingerprint
        opened: OpenTrained = self._shared.acquire(lambda: opened_to_add(run), tag=fingerprint)
        return opened
