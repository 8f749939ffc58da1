"""Whether a reindex trains anew: how far the new vectors are from those that the index was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.markers import StageMarker
from transforms.runs import beacons
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.tasks.drift import measure_drift


@dataclass(eq=False)
class MeasureDrift(beam.PTransform):
    """Measures drift against the trained index of the base and decides, under `auto`, whether to train anew.

    It does when the new rows are at least 1 % and their residual after coding is more than 1.10 times what training saw
    of held-out rows, and not by chance; when the lists are more than 1.25 times as unbalanced; when recall@10 of the
    canary queries fell by more than 2 points; or when the key `auto` would choose today has 4 times the lists. A first
    build has no drift.

    Cost: one worker reads the new shards for a sample of their rows (and for those that join the canaries' universe),
    and the sizes of all lists of all shard indexes.
    """

    run: Run

    def expand(self, buried: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the tombstones stage."""
        return buried | "Measure" >> beam.ParDo(_Measure(self.run)) | "DriftDone" >> FinishStage(self.run, "drift")


class _Measure(RunTask):
    def process(self, buried: StageMarker) -> Iterator[int]:
        with beacons.lit(self._run, "drift", 0):
            measured = measure_drift(self._run)
        if measured:
            yield 0
