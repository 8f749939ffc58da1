"""The merge stage: shard indexes become one index, each worker owning ranges of inverted lists."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.combiners import Count

from transforms.index.lists.inputs import MergeInputs
from transforms.markers import StageMarker
from transforms.runs import beacons
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.tasks.merge.file import Piece, finish_merge, merge_piece, plan_merge
from transforms.tasks.merge.inputs import merge_inputs
from transforms.tasks.merge.segments import RangeTask, merge_into_segment, merge_tier, plan_segments, plan_tier


@dataclass(eq=False)
class MergeBlocks(beam.PTransform):
    """Merges the shard indexes of a run: into one ordinary faiss file, or into segments where the root is no folder.

    More shard indexes than one merge should read at once are first merged in groups, range by range (the tier).

    Cost: reads and writes every code once, twice with a tier; memory of a worker is two steps (48 MiB each, or the
    longest list if that is larger: all of it for one list, which is what `Flat` is), whatever the number of vectors.
    Segments and files of the tier are made in `Store.scratch()`: the disk of a worker needs room for one, 1 GiB.
    """

    run: Run

    def expand(self, added: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the add stage."""
        merged = (
            added
            | "TierFiles" >> beam.ParDo(_PlanTier(self.run))
            # Breaks the fusion with the one planner: files are merged on all workers.
            | "SpreadTier" >> beam.Reshuffle()
            | "MergeTier" >> beam.ParDo(_MergeTier(self.run))
            # The merge reads the files of all groups.
            | "TierDone" >> FinishStage(self.run, "tier")
            | "Pieces" >> beam.ParDo(_PlanPieces(self.run))
            # Breaks the fusion with the one planner: pieces are merged on all workers.
            | "SpreadPieces" >> beam.Reshuffle()
            | "MergePiece" >> beam.ParDo(_MergePiece(self.run))
        )
        if self.run.store.local is not None:
            # All pieces are in the file: only then does it get its name.
            merged = merged | "CountPieces" >> Count.Globally() | "FinishFile" >> beam.ParDo(_FinishFile(self.run))
        return merged | "MergeDone" >> FinishStage(self.run, "merge")


class _PlanTier(RunTask):
    def process(self, added: StageMarker) -> Iterator[RangeTask]:
        # A run that went past its tier goes on with what that made.
        done = self._run.stage_marker("tier")
        if done is None or done.tasks:
            yield from plan_tier(self._run)


class _MergeTier(RunTask):
    def process(self, task: RangeTask) -> Iterator[int]:
        with beacons.lit(self._run, "tier", task.number):
            merge_tier(self._run, task)
        yield task.number


class _PlanPieces(RunTask):
    def process(self, tier: StageMarker) -> Iterator[Piece | RangeTask]:
        yield from plan_segments(self._run) if self._run.store.local is None else plan_merge(self._run)


class _MergePiece(RunTask):
    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._inputs: MergeInputs | None = None

    def process(self, piece: Piece | RangeTask) -> Iterator[int]:
        # Kept from piece to piece, but not shared with other threads of the process: readers and buffer are for one.
        self._inputs = self._inputs or merge_inputs(self._run)
        with beacons.lit(self._run, "merge", piece.number):
            if isinstance(piece, Piece):
                merge_piece(self._run, piece, self._inputs)
            else:
                merge_into_segment(self._run, piece, self._inputs)
        yield piece.number

    def teardown(self) -> None:
        if self._inputs is not None:
            self._inputs.close()


class _FinishFile(RunTask):
    def process(self, pieces: int) -> Iterator[int]:
        finish_merge(self._run)
        yield from range(pieces)
