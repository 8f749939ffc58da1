"""The stages of training: from embedded shards to a committed trained index.

    sample    a block each    a seeded share of the rows, in a list file
    parents   one             the transforms, and √K parents, from a pilot of the sample
    route     a block each    the sample behind the transforms, as lists over the parents' cells
    cells … move2             the centroids (`transforms.stages.train_lists`)
    train     one             quantizer, codebooks, audit; the trained index

A reindex that does not train anew skips all of them and takes over the index that is there.

Every stage has a marker a task, reads what it needs from the store, and gives the same bytes in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.markers import StageMarker
from transforms.runs import beacons, inventory
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.stages.train_lists import ClusterCells, GroupCells, Look, MoveLists
from transforms.tasks.train import (
    SampleTask,
    assemble_index,
    blocks_to_sample,
    route_block,
    sample_block,
    take_over,
    train_parents,
)
from transforms.tasks.train_lists import Move, Pass


@dataclass(eq=False)
class TrainIndex(beam.PTransform):
    """Samples every block in parallel, then trains one index on the sample, cell by cell in parallel.

    Cost: reads every shard once, and the sample (40 vectors a list, at least 65,536) five times. Memory of a worker:
    the sample of one block, as it is stored before and behind the transforms; one group of cells; or three times the
    centroids with 65,536 vectors.
    """

    run: Run

    def expand(self, embedded: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the embed stage."""
        return (
            embedded
            | "BlocksToSample" >> beam.ParDo(_BlocksToSample(self.run))
            # Breaks the fusion with the one reader of the plan: blocks are sampled on all workers.
            | "SpreadSamples" >> beam.Reshuffle()
            | "SampleBlock" >> beam.ParDo(_SampleBlock(self.run))
            | "SampleDone" >> FinishStage(self.run, "sample")
            | "TrainParents" >> beam.ParDo(_TrainParents(self.run))
            | "ParentsDone" >> FinishStage(self.run, "parents")
            | "BlocksToRoute" >> beam.ParDo(_BlocksToRoute(self.run))
            # Breaks the fusion with the one reader of the plan: blocks are routed on all workers.
            | "SpreadBlocks" >> beam.Reshuffle()
            | "RouteBlock" >> beam.ParDo(_RouteBlock(self.run))
            | "RouteDone" >> FinishStage(self.run, "route")
            | "TrainLists" >> _TrainLists(self.run)
            | "Assemble" >> beam.ParDo(_Assemble(self.run))
            | "TrainDone" >> FinishStage(self.run, "train")
        )


@dataclass(eq=False)
class _TrainLists(beam.PTransform):
    run: Run

    def expand(self, routed: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the route stage."""
        run = self.run
        return (
            routed
            | "GroupCells" >> beam.ParDo(GroupCells(run))
            # Breaks the fusion with the one that counted the cells: groups are clustered on all workers.
            | "SpreadCells" >> beam.Reshuffle()
            | "ClusterCells" >> beam.ParDo(ClusterCells(run))
            | "CellsDone" >> FinishStage(run, "cells")
            | "Pass1" >> _PassOverLists(run, "pass1", "move1")
            | "Pass2" >> _PassOverLists(run, "pass2", "move2")
        )


@dataclass(eq=False)
class _PassOverLists(beam.PTransform):
    run: Run
    look: Pass
    move: Move

    def expand(self, before: PCollection[StageMarker]) -> PCollection[StageMarker]:
        run = self.run
        return (
            before
            | "GroupCells" >> beam.ParDo(GroupCells(run))
            # Breaks the fusion with the one that counted the cells: groups look on all workers.
            | "SpreadCells" >> beam.Reshuffle()
            | "Look" >> beam.ParDo(Look(run, self.look))
            | "LookDone" >> FinishStage(run, self.look)
            | "Move" >> beam.ParDo(MoveLists(run, self.look, self.move))
            | "MoveDone" >> FinishStage(run, self.move)
        )


class _BlocksToSample(RunTask):
    def process(self, embedded: StageMarker) -> Iterator[SampleTask]:
        yield from blocks_to_sample(self._run)


class _SampleBlock(RunTask):
    def process(self, task: SampleTask) -> Iterator[int]:
        with beacons.lit(self._run, "sample", task.block.number):
            sample_block(self._run, task)
        yield task.block.number


class _TrainParents(RunTask):
    def process(self, sampled: StageMarker) -> Iterator[int]:
        if inventory.retrains(self._run):
            with beacons.lit(self._run, "parents", 0):
                train_parents(self._run)
            yield 0


class _BlocksToRoute(RunTask):
    def process(self, sampled: StageMarker) -> Iterator[int]:
        if inventory.retrains(self._run):
            yield from range(inventory.blocks(self._run))


class _RouteBlock(RunTask):
    def process(self, block: int) -> Iterator[int]:
        with beacons.lit(self._run, "route", block):
            route_block(self._run, block)
        yield block


class _Assemble(RunTask):
    def process(self, moved: StageMarker) -> Iterator[int]:
        if inventory.retrains(self._run):
            with beacons.lit(self._run, "train", 0):
                assemble_index(self._run)
        else:
            take_over(self._run)
        yield 0
