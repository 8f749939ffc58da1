"""The key tables of a run: those of the generation before, without what is removed, with the items of new shards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection

from transforms.generations import key_tables, tables
from transforms.markers import KeysMarker, StageMarker
from transforms.records import digest
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.tasks.keys import shard_entries

_SHARDS_AT_ONCE = 16


@dataclass(eq=False)
class UpdateKeys(beam.PTransform):
    """Writes every hash bucket of the key tables, each by one worker. Ready embeddings have none.

    Cost: reads keys and versions of the new shards, shuffles 60 bytes an item of them, and rewrites the buckets that
    they fall into (about 50 bytes an item, known ones too). Memory of a worker is one bucket, three times.
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


def bits_of(run: Run) -> int:
    """Returns how many bits of a hash number the buckets of a run; never fewer than those of the generation before."""
    base = run.base
    if base is None:
        return key_tables.bits_for(run.plan.items)
    known = [bucket.bits for bucket in tables.buckets_of(run.store, base)]
    return max([key_tables.bits_for(base.totals.items + run.plan.items), *known])


def _has_keys(run: Run) -> bool:
    # A run that went past the stage goes on with what that made.
    done = run.stage_marker("keys") is not None or inventory.is_idle(run)
    return not run.request.is_ready and not done


class _ShardsToKey(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, embedded: StageMarker) -> Iterator[range]:
        if _has_keys(self._run):
            first, stop = self._run.plan.first_shard, self._run.plan.first_shard + self._run.plan.shards
            for start in range(first, stop, _SHARDS_AT_ONCE):
                yield range(start, min(start + _SHARDS_AT_ONCE, stop))


class _AllBuckets(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, embedded: StageMarker) -> Iterator[tuple[int, bytes]]:
        if _has_keys(self._run):
            yield from ((bucket, b"") for bucket in range(1 << bits_of(self._run)))


class _KeysOfShards(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, shards: range) -> Iterator[tuple[int, bytes]]:
        run, bits = self._run, bits_of(self._run)
        for marker in run.shards(shards):
            entries = shard_entries(run.store, marker, run.request.sources)
            for bucket, some in key_tables.by_bucket(entries, bits):
                yield bucket, some.tobytes()


class _WriteBucket(beam.DoFn):
    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, bucket: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        number, parts = bucket
        run, bits = self._run, bits_of(self._run)
        known = [] if run.base is None else tables.buckets_of(run.store, run.base)
        removed = tables.removed_of(run.store, run.plan)
        answered = digest(bits, [one.file for one in known], [one.file for one in removed], run.plan.partitions)
        if run.marker("keys", number, KeysMarker, answered) is None:
            new = np.concatenate([np.frombuffer(part, key_tables.ENTRY) for part in parts])
            before = key_tables.read_bucket(run.store, known, number, bits)
            gone = key_tables.read_bucket(run.store, removed, number, bits)
            kept = before[~key_tables.is_among(before, gone)] if len(gone) else before
            entries = key_tables.sort(np.concatenate([kept, new]))
            same = next((one.file for one in known if (one.number, one.bits) == (number, bits)), None)
            unchanged = same is not None and not len(new) and not len(gone)
            run.commit(
                "keys",
                number,
                KeysMarker(
                    number=number,
                    digest=answered,
                    entries=len(entries),
                    rejected=int(np.count_nonzero(entries["reject"])),
                    images=int(np.count_nonzero(entries["image"] >= 0)),
                    texts=int(np.count_nonzero(entries["text"] >= 0)),
                    keywords=int(entries["keywords"].sum(dtype=np.int64)),
                    file=same if same is not None and unchanged else key_tables.write_entries(run.store, entries),
                ),
            )
        yield number
