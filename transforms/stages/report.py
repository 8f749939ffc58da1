"""After the last stage: the report of what was published, which fails nothing.

The generation is published by then, and searches find it; the job ends when its report is made.
"""

from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.markers import StageMarker
from transforms.runs.run import Run
from transforms.stages.run_task import RunTask


@dataclass(eq=False)
class ReportGeneration(beam.PTransform):
    """Makes the report of the generation that a run has published (`report.make.after`); it has no marker of its own.

    Attributes:
        run: the run.
        since: when the job started, in seconds since the epoch.
    """

    run: Run
    since: float

    def expand(self, published: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the publish stage, and yields it."""
        return published | "Make" >> beam.ParDo(_Report(self.run, self.since))


class _Report(RunTask):
    def __init__(self, run: Run, since: float) -> None:
        super().__init__(run)
        self._since = since

    def process(self, published: StageMarker) -> list[StageMarker]:
        from transforms.report import make  # noqa: PLC0415 - templates and pictures: a night with nothing to do needs none

        make.after(self._run, self._since)
        return [published]
