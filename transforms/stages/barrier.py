"""The barrier between two stages: it waits for every task of one, through data and never through the launcher."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.combiners import Count

from transforms.markers import StageMarker
from transforms.runs.run import Run, Stage
from transforms.stages.run_task import RunTask
from transforms.storage import layout


@dataclass(eq=False)
class FinishStage(beam.PTransform):
    """Counts the finished tasks of a stage and, when all are in, commits its marker: the one element that goes on.

    Cost: one small element a task; nothing of what the tasks made passes through.
    """

    run: Run
    stage: Stage

    def expand(self, done: PCollection[int]) -> PCollection[StageMarker]:
        """Takes one number for each task that is done."""
        return done | "Count" >> Count.Globally() | "Commit" >> beam.ParDo(_CommitStage(self.run, self.stage))


class _CommitStage(RunTask):
    def __init__(self, run: Run, stage: Stage) -> None:
        super().__init__(run)
        self._stage = stage

    def process(self, tasks: int) -> Iterator[StageMarker]:
        marker = StageMarker(self._stage, tasks, time.time())
        yield self._run.store.commit(layout.stage_marker(self._run.generation, self._stage), marker)
