"""Compares the listed items with those of a generation, bucket by bucket, on many workers. For a reindex."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import apache_beam as beam
from apache_beam.pvalue import AsList, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from transforms.derivation import RootPart
from transforms.generations.key_tables import KeyBatch
from transforms.records import FileReference
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources.ready.vectors import ReadyFile
from transforms.stages.run_task import RunTask
from transforms.tasks.changes import (
    BucketChanges,
    ChosenItems,
    compare_bucket,
    is_damaged,
    select_items,
    shards_to_check,
)
from transforms.tasks.listing import SkippableFile

_CHOSEN: Final = "chosen"


@dataclass(eq=False)
class CompareItems(beam.PTransform):
    """Compares the items that were listed with those of a generation.

    Cost: reads the key tables of the generation once (about 65 bytes an item), and the tables of containers that
    changed once more. Memory of a worker is what is listed and known of one bucket, five times.

    Takes (listings, key batches by bucket, files that need not be opened); returns the listings of what is new or
    changed, and a `BucketChanges` a bucket.
    """

    run: Run
    bits: int

    @no_annotations  # type: ignore[untyped-decorator]  # Beam knows no types of several collections, and warns of them
    def expand(
        self,
        listed: tuple[
            PCollection[Listing | ReadyFile | RootPart], PCollection[tuple[int, KeyBatch]], PCollection[SkippableFile]
        ],
    ) -> tuple[PCollection[Listing], PCollection[BucketChanges]]:
        """Wires it."""
        listings, keys, skippable = listed
        # Every bucket is looked at, also one of which nothing is listed any more.
        everywhere = keys.pipeline | "AllBuckets" >> beam.Create([(bucket, None) for bucket in range(1 << self.bits)])
        checked = keys.pipeline | "ShardsToCheck" >> beam.Create([self.run.generation])
        damaged = (
            checked
            | "ReadShards" >> beam.ParDo(_ShardsToCheck(self.run))
            # Breaks the fusion with the one reader of the table: shards are checked on all workers.
            | "SpreadShards" >> beam.Reshuffle()
            | "CheckShard" >> beam.ParDo(_CheckShard(self.run))
        )
        compared = (
            (keys, everywhere)
            | "Buckets" >> beam.Flatten()
            | "ByKeyHash" >> beam.GroupByKey()
            | "CompareBucket"
            >> beam.ParDo(_CompareBucket(self.run, self.bits), AsList(skippable), AsList(damaged)).with_outputs(
                _CHOSEN, main="changes"
            )
        )
        selected = (
            {
                "listings": listings | "ByTable" >> beam.ParDo(_ByTable()),  # type: ignore[no-untyped-call]  # Beam's class has none
                "chosen": compared[_CHOSEN],
            }
            | "ItemsByTable" >> beam.CoGroupByKey()
            | "SelectItems" >> beam.ParDo(_SelectItems(self.run))
        )
        return selected, compared["changes"]


class _ByTable(beam.DoFn):
    """Names a listing by its table. (Of ready embeddings there are other records, and no tables.)"""

    def process(self, listing: Listing | ReadyFile | RootPart) -> Iterator[tuple[str, Listing]]:
        if isinstance(listing, Listing):
            yield listing.table.path, listing


class _ShardsToCheck(RunTask):
    """Yields the shards that have files, where a repair is asked for."""

    def process(self, generation: int) -> Iterator[tuple[int, FileReference]]:
        yield from shards_to_check(self._run)


class _CheckShard(RunTask):
    """Yields the number of a shard that has a file which is missing, or is not the one that was written."""

    def process(self, shard: tuple[int, FileReference]) -> Iterator[int]:
        number, file = shard
        if is_damaged(self._run, file):
            yield number


class _CompareBucket(RunTask):
    def __init__(self, run: Run, bits: int) -> None:
        super().__init__(run)
        self._bits = bits

    def process(
        self, bucket: tuple[int, Iterable[KeyBatch | None]], skippable: Sequence[SkippableFile], damaged: Sequence[int]
    ) -> Iterator[BucketChanges | TaggedOutput[Literal["chosen"], tuple[str, bytes]]]:
        number, batches = bucket
        listed = (batch for batch in batches if batch is not None)
        for result in compare_bucket(self._run, self._bits, number, listed, skippable, damaged):
            if isinstance(result, ChosenItems):
                yield TaggedOutput[Literal["chosen"], tuple[str, bytes]](_CHOSEN, (result.table, result.records))
            else:
                yield result


class _SelectItems(RunTask):
    """Leaves of an item table only what is to be embedded, in a table of its own."""

    def process(self, table: tuple[str, dict[str, Iterable[Listing | bytes]]]) -> Iterator[Listing]:
        _, joined = table
        listings = (listing for listing in joined["listings"] if isinstance(listing, Listing))
        yield from select_items(self._run, listings, (part for part in joined["chosen"] if isinstance(part, bytes)))
