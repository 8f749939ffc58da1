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

from transforms.errors import PixdexError
from transforms.index import canaries
from transforms.index.open_trained import open_trained
from transforms.index.training import assemble, routing, sampling, save
from transforms.index.training.passes import Moved
from transforms.index.training.routing import Router
from transforms.index.training.sampling import HELD_OUT_PART, PILOT_PART, REST_PART, Shares
from transforms.markers import ListsMarker, StageMarker, TrainedIndex, TrainMarker
from transforms.records import Block, FileReference, digest
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.shards.vectors import VectorBatch
from transforms.stages.barrier import FinishStage
from transforms.stages.train_lists import ClusterCells, GroupCells, Look, Move, MoveLists, Pass
from transforms.storage import layout
from transforms.tasks.training_files import TensorsMarker, files_of, key_of, read_tensors, upload_tensors

_PILOT = range(PILOT_PART, PILOT_PART + 1)
_HELD_OUT = range(HELD_OUT_PART, HELD_OUT_PART + 1)


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


@dataclass(frozen=True)
class _SampleTask:
    block: Block
    shares: Shares


class _BlocksToSample(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, embedded: StageMarker) -> Iterator[_SampleTask]:
        run = self._run
        if inventory.retrains(run):
            shares = sampling.sample_shares(*key_of(run))
            yield from (_SampleTask(block, shares) for block in inventory.blocks_to_add(run))


class _SampleBlock(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, task: _SampleTask) -> Iterator[int]:
        run, number, request = self._run, task.block.number, self._run.request
        found = inventory.shards_in(run, task.block)
        content = [(marker.shard, marker.embeddings, marker.ready) for marker in found.shards]
        answered = digest(request.seed, task.shares, content, found.rows)
        if run.marker("sample", number, ListsMarker, answered) is None:
            with run.store.scratch() as scratch:
                file = scratch / "sample.ivf"
                with file.open("wb") as out:
                    rows, seal = sampling.write_sample(
                        out,
                        run.store,
                        found.shards,
                        request.encoder,
                        seed=request.seed,
                        shares=task.shares,
                        alive=found.alive,
                    )
                folder, stem = layout.sample_folder(run.generation), layout.block_stem(number)
                lists = run.store.upload(file, folder, stem, f"xxh3:{seal.checksum}")
            run.commit("sample", number, ListsMarker(number, answered, rows, lists))
        yield number


class _TrainParents(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, sampled: StageMarker) -> Iterator[int]:
        run, request, workers = self._run, self._run.request, self._run.request.encoder.threads
        if not inventory.retrains(run):
            return
        samples = files_of(run, "sample")
        answered = digest(request.index, request.seed, [file.checksum for file in samples])
        if run.marker("parents", 0, TensorsMarker, answered) is None:
            _, pilot = sampling.read_parts(run.store, samples, _PILOT, request.encoder.dim, workers)
            if not len(pilot):
                raise PixdexError(f"{run.store.url} has no vector to train an index on: every item was rejected")
            key, _ = key_of(run)
            router = assemble.train_parents(key, request.index.metric, pilot, request.seed, workers)
            run.commit("parents", 0, TensorsMarker(0, answered, upload_tensors(run, "parents", router.tensors)))
        yield 0


class _BlocksToRoute(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, sampled: StageMarker) -> Iterator[int]:
        if inventory.retrains(self._run):
            yield from range(inventory.blocks(self._run))


class _RouteBlock(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, block: int) -> Iterator[int]:
        run, request = self._run, self._run.request
        (parents,) = run.markers("parents", [0], TensorsMarker)
        (sample,) = run.markers("sample", [block], ListsMarker)
        answered = digest(parents.tensors.checksum, sample.lists.checksum)
        if run.marker("route", block, ListsMarker, answered) is None:
            router = Router.of(read_tensors(run, "parents"), spherical=request.index.metric == "ip")
            parts = [sampling.read_part(run.store, sample.lists, part) for part in (PILOT_PART, REST_PART)]
            with run.store.scratch() as scratch:
                file = scratch / "routed.ivf"
                with file.open("wb") as out:
                    half, workers = request.encoder.normalize, request.encoder.threads
                    rows, seal = routing.write_routed(out, router, parts, half=half, workers=workers)
                folder, stem = layout.training_folder(run.generation), layout.group_stem("routed", block)
                lists = run.store.upload(file, folder, stem, f"xxh3:{seal.checksum}")
            run.commit("route", block, ListsMarker(block, answered, rows, lists))
        yield block


class _Assemble(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, moved: StageMarker) -> Iterator[int]:
        run, settings, seed = self._run, self._run.request.index, self._run.request.seed
        if not inventory.retrains(run):
            self._take_over()
            yield 0
            return
        (last,) = run.markers("move2", [0], TensorsMarker)
        answered = digest(last.tensors.checksum, last.digest)
        if run.marker("train", 0, TrainMarker, answered) is None:
            samples, encoder = files_of(run, "sample"), run.request.encoder
            pilot_ids, pilot = sampling.read_parts(run.store, samples, _PILOT, encoder.dim, encoder.threads)
            held_out_ids, held_out = sampling.read_parts(run.store, samples, _HELD_OUT, encoder.dim, encoder.threads)
            router = Router.of(read_tensors(run, "parents"), spherical=settings.metric == "ip")
            lists = Moved.of(read_tensors(run, "move2"))
            assembled = assemble.assemble(router, lists.centroids, pilot, held_out, seed, encoder.threads)
            key, _ = key_of(run)
            trained = save.save(
                run.store,
                assembled,
                lists,
                key,
                settings.metric,
                normalized=encoder.normalize,
                held_out=len(held_out),
                seed=seed,
            )
            watch = self._canaries(trained, VectorBatch(pilot_ids, pilot), VectorBatch(held_out_ids, held_out))
            run.commit("train", 0, TrainMarker(answered, trained, watch))
        yield 0

    def _take_over(self) -> None:
        """The trained index of the base goes on being the one."""
        run, base = self._run, self._run.base
        assert base is not None
        answered = digest("base", base.trained.fingerprint)
        if run.marker("train", 0, TrainMarker, answered) is None:
            watch = base.canaries if inventory.is_idle(run) else run.drift.canaries
            run.commit("train", 0, TrainMarker(answered, base.trained, watch))

    def _canaries(self, trained: TrainedIndex, pilot: VectorBatch, held_out: VectorBatch) -> FileReference:
        """Queries that later runs ask again: rows that nothing was trained on, where there are any."""
        run = self._run
        # Thresholds of one hash: a smaller share of the rows is part of the pilot.
        key, rows = key_of(run)
        share = min(sampling.sample_shares(key, rows).pilot, canaries.UNIVERSE / max(rows, 1))
        watched = sampling.in_sample(pilot.ids, run.request.seed, share)
        made = canaries.make(
            open_trained(run.store, trained),
            VectorBatch(pilot.ids[watched], pilot.vectors[watched]),
            held_out if len(held_out.ids) else pilot,
            trained.metric,
            seed=run.request.seed,
            share=share,
            nprobe=trained.nprobe,
            workers=run.request.encoder.threads,
        )
        return canaries.save(run.store, trained.fingerprint, made)
