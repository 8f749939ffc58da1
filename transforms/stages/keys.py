"""The key tables of a run: those of the generation before, without what is removed, with the items of new shards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.markers import StageMarker
from transforms.runs.inventory import key_bits
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.tasks.keys import entries_of, has_keys, write_bucket

_SHARDS_AT_ONCE = 16


@dataclass(eq=False)
class UpdateKeys(beam.PTransform):
    """Writes every hash bucket of the key tables, each by one worker. Ready embeddings have none.

    Cost: reads keys and versions of the new shards, shuffles 76 bytes an item of them, and rewrites the buckets that
    they fall into (about 65 bytes an item, known ones too). Memory of a worker is one bucket, three times.
    """

    run: Run

    def expand(self, embedded: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the embed stage."""
        entries = (
            embedded
            | "ShardsToKey" >> beam.ParDo(_ShardsToKey(self.run))
            # Breaks the fusion with the one reader of the plan: shards are read on all workers.
            | "SpreadShards" >> beam.Reshuffle()
            | "KeysOfShards" >> beam.ParDo(_KeysOfShards(self.run))
        )
        # Every bucket is written, also one into which nothing new falls.
        everywhere = embedded | "AllBuckets" >> beam.ParDo(_AllBuckets(self.run))
        return (
            (entries, everywhere)
            | "Buckets" >> beam.Flatten()
            | "ByBucket" >> beam.GroupByKey()
            | "WriteBucket" >> beam.ParDo(_WriteBucket(self.run))
            | "KeysDone" >> FinishStage(self.run, "keys")
        )


class _ShardsToKey(RunTask):
    def process(self, embedded: StageMarker) -> Iterator[range]:
        if has_keys(self._run):
            first, stop = self._run.plan.first_shard, self._run.plan.first_shard + self._run.plan.shards
            for start in range(first, stop, _SHARDS_AT_ONCE):
                yield range(start, min(start + _SHARDS_AT_ONCE, stop))


class _AllBuckets(RunTask):
    def process(self, embedded: StageMarker) -> Iterator[tuple[int, bytes]]:
        if has_keys(self._run):
            yield from ((bucket, b"") for bucket in range(1 << key_bits(self._run)))


class _KeysOfShards(RunTask):
    def process(self, shards: range) -> Iterator[tuple[int, bytes]]:
        yield from entries_of(self._run, shards)


class _WriteBucket(RunTask):
    def process(self, bucket: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        number, parts = bucket
        write_bucket(self._run, number, parts)
        yield number
