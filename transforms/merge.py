"""The merge stage: shard indexes become one `index.faiss`, each worker owning ranges of inverted lists."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.combiners import Count

from transforms.merging import MergeInputs, Piece, finish_merge, merge_piece, plan_merge
from transforms.records import StageMarker
from transforms.run import Run
from transforms.stage import FinishStage


@dataclass(eq=False)
class MergeBlocks(beam.PTransform):
    """Merges the shard indexes of a run into one ordinary faiss file.

    Cost: reads and writes every code once; memory of a worker is one piece (128 MiB, or the longest list if that is
    larger: all of it for one list, which is what `Flat` is), whatever the number of vectors.
    """

    run: Run

    def expand(self, added: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the add stage."""
        return (
            added
            | "Pieces" >> beam.ParDo(_PlanPieces(self.run))
            # Breaks the fusion with the one planner: pieces are merged on all workers.
            | "SpreadPieces" >> beam.Reshuffle()
            | "MergePiece" >> beam.ParDo(_MergePiece(self.run))
            # All pieces are in the file: only then does it get its name.
            | "CountPieces" >> Count.Globally()
            | "FinishFile" >> beam.ParDo(_FinishFile(self.run))
            | "MergeDone" >> FinishStage(self.run, "merge")
        )


class _PlanPieces(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, added: StageMarker) -> Iterator[Piece]:
        yield from plan_merge(self._run)


class _MergePiece(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._inputs: MergeInputs | None = None

    def process(self, piece: Piece) -> Iterator[int]:
        # Kept from piece to piece, but not shared with other threads of the process: readers and buffer are for one.
        self._inputs = self._inputs or MergeInputs(self._run)
        merge_piece(self._run, piece, self._inputs)
        yield piece.number

    def teardown(self) -> None:
        if self._inputs is not None:
            self._inputs.close()


class _FinishFile(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, pieces: int) -> Iterator[int]:
        finish_merge(self._run)
        yield from range(pieces)
