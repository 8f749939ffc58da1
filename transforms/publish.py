"""The last stage: creates the generation that names all the others made."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms import generations, layout
from transforms.errors import PixdexError
from transforms.records import StageMarker
from transforms.run import Run
from transforms.stage import FinishStage


@dataclass(eq=False)
class PublishGeneration(beam.PTransform):
    """Checks the counts and publishes the generation; readers see all of it or nothing."""

    run: Run

    def expand(self, merged: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the merge stage."""
        return merged | "Publish" >> beam.ParDo(_Publish(self.run)) | "PublishDone" >> FinishStage(self.run, "publish")


class _Publish(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, merged: StageMarker) -> Iterator[int]:
        run = self._run
        if run.store.exists(layout.abandoned(run.generation)):
            raise PixdexError(
                f"{run.store.url}: the run of generation {run.generation} was given up by another build of this root"
            )
        yield generations.publish(run).generation
