"""The barrier between two stages: it waits for every task of one, through data and never through the launcher."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import AsIter, PCollection

from transforms.markers import StageMarker
from transforms.runs.run import Run, Stage
from transforms.stages import lineage
from transforms.stages.run_task import RunTask
from transforms.storage import layout


@dataclass(eq=False)
class FinishStage(beam.PTransform):
    """Counts the finished tasks of a stage and, when all are in, commits its marker: the one element that goes on.

    The tasks are a side input, which is whole before anybody reads it. Beam's own count would wait as well, by ten
    transforms more for each stage, of which a small build would mostly consist.

    Cost: one small element a task; nothing of what the tasks made passes through.
    """

    run: Run
    stage: Stage

    def expand(self, done: PCollection[int]) -> PCollection[StageMarker]:
        """Takes one number for each task that is done."""
        commit = beam.ParDo(_CommitStage(self.run, self.stage), AsIter(done))
        return done.pipeline | "Once" >> beam.Impulse() | "Commit" >> commit


class _CommitStage(RunTask):
    def __init__(self, run: Run, stage: Stage) -> None:
        super().__init__(run)
        self._stage = stage

    def process(self, _: bytes, done: Iterable[int]) -> Iterator[StageMarker]:
        lineage.report_root(self._run)
        marker = StageMarker(self._stage, sum(1 for _ in done), time.time())
        yield self._run.store.commit(layout.stage_marker(self._run.generation, self._stage), marker)
