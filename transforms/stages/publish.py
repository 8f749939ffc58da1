"""The last stage: creates the generation that names all the others made."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.errors import PixdexError
from transforms.markers import StageMarker
from transforms.runs import beginning, inventory
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.storage import layout
from transforms.tasks import publish


@dataclass(eq=False)
class PublishGeneration(beam.PTransform):
    """Checks the counts and publishes the generation; readers see all of it or nothing.

    A reindex that found nothing to do, or whose every reject was rejected again, publishes nothing, and gives its
    number up.
    """

    run: Run

    def expand(self, merged: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the merge stage."""
        return merged | "Publish" >> beam.ParDo(_Publish(self.run)) | "PublishDone" >> FinishStage(self.run, "publish")


class _Publish(RunTask):
    def process(self, merged: StageMarker) -> Iterator[int]:
        run = self._run
        if run.store.exists(layout.abandoned(run.generation)):
            if inventory.is_idle(run):
                return
            raise PixdexError(
                f"{run.store.url}: the run of generation {run.generation} was given up by another build of this root"
            )
        if inventory.is_idle(run):
            beginning.give_up(run)
        else:
            publish.publish(run)
        yield run.generation
