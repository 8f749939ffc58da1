"""The sample and train stages: from embedded shards to a committed trained index."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms import layout, planning
from transforms.index import sampling, training
from transforms.index.choose import choose
from transforms.planning import Block
from transforms.records import ListsMarker, ShardMarker, StageMarker, TrainMarker, digest
from transforms.run import Run
from transforms.stage import FinishStage
from transforms.threads import threads


@dataclass(eq=False)
class TrainIndex(beam.PTransform):
    """Samples every block in parallel, then trains one index on the sample.

    Cost: reads every shard once; training holds the sample in one worker's memory: 256 vectors a list, at least 65,536.
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
            | "Train" >> beam.ParDo(_Train(self.run))
            | "TrainDone" >> FinishStage(self.run, "train")
        )


@dataclass(frozen=True)
class _SampleTask:
    block: Block
    fraction: float


class _BlocksToSample(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, embedded: StageMarker) -> Iterator[_SampleTask]:
        run = self._run
        rows = sum(marker.rows for marker in run.shards())
        fraction = sampling.sample_fraction(choose(run.request.index, rows, run.request.encoder.dim), rows)
        for block in planning.read_blocks(run.store, run.plan):
            yield _SampleTask(block, fraction)


class _SampleBlock(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, task: _SampleTask) -> Iterator[int]:
        run, block = self._run, task.block
        shards = [
            (marker.shard, marker.embeddings)
            for marker in run.markers("embed", block.shards, ShardMarker)
            if marker.embeddings
        ]
        answered = digest(run.request.seed, task.fraction, shards)
        if run.marker("sample", block.number, ListsMarker, answered) is None:
            ids, vectors = sampling.sample_block(
                run.store, shards, run.request.encoder.dim, run.request.seed, task.fraction
            )
            with run.store.scratch() as scratch:
                file = scratch / "sample.ivf"
                checksum = sampling.write_sample(file, ids, vectors)
                folder, stem = layout.sample_folder(run.generation), layout.block_stem(block.number)
                lists = run.store.upload(file, folder, stem, checksum)
            run.commit("sample", block.number, ListsMarker(block.number, answered, len(ids), lists))
        yield block.number


class _Train(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, sampled: StageMarker) -> Iterator[int]:
        run = self._run
        samples = run.markers("sample", range(run.plan.blocks), ListsMarker)
        answered = digest(run.request.index, run.request.seed, [marker.lists.checksum for marker in samples])
        if run.marker("train", 0, TrainMarker, answered) is None:
            settings = run.request.index
            rows = sum(marker.rows for marker in run.shards())
            key = choose(settings, min(rows, run.plan.rows), run.request.encoder.dim)
            sample = sampling.read_sample(run.store, [marker.lists for marker in samples])
            with threads(run):
                index = training.train(key, settings.metric, sample, run.request.seed)
            trained = training.save(run.store, index, key, settings.metric, sample, run.request.seed)
            run.commit("train", 0, TrainMarker(answered, trained))
        yield 0
