"""The first stage: from the request to a committed plan."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import AsList, PCollection

from transforms.derivation import RootPart
from transforms.generations.key_tables import KeyBatch
from transforms.markers import StageMarker
from transforms.runs.partitions import Listing
from transforms.runs.run import Run
from transforms.sources.ready.vectors import ReadyFile
from transforms.stages.barrier import FinishStage
from transforms.stages.changes import CompareItems
from transforms.stages.listing import BESIDE, CONTAINERS, KEYS, ExpandSources, ListContainer
from transforms.stages.run_task import RunTask
from transforms.tasks.changes import BucketChanges, bits_of, repeats_in
from transforms.tasks.listing import Beside, SkippableFile
from transforms.tasks.plan import commit_plan


@dataclass(eq=False)
class PlanItems(beam.PTransform):
    """Lists every source, refuses keys that occur twice, cuts the items into partitions, and commits the plan.

    Of a reindex, only what is new or changed is planned. An index that a worker of `worker_memory` bytes (None: of this
    machine's) could not train, add to or merge is refused before the plan is committed; so is a night on which a
    source lost more than `max_gone_ratio` of its items.

    Cost: one listing call a folder and one read of every CSV, spread over workers. To find keys that occur twice, and
    what changed, 48 bytes an item are shuffled, in pieces that each name their item table (about 60 bytes); a worker
    holds 1/256 of them, and 16 bytes more an item to sort. Of ready embeddings, whose keys are unique by construction,
    only headers are read, and a small record a file is gathered. A run whose plan is committed lists nothing.
    """

    run: Run
    first_shard: int
    worker_memory: int | None = None
    max_gone_ratio: float = 0.5

    def expand(self, begin: beam.pvalue.PBegin) -> PCollection[StageMarker]:
        """Starts the graph."""
        bits = bits_of(self.run)
        listed = (
            begin
            | "Run" >> beam.Create([self.run.generation])
            | "ExpandSources" >> beam.ParDo(ExpandSources(self.run))
            # Breaks the fusion with one expanding worker: containers are listed on all of them.
            | "SpreadContainers" >> beam.Reshuffle()
            | "ListContainer"
            >> beam.ParDo(ListContainer(self.run, bits)).with_outputs(KEYS, CONTAINERS, BESIDE, main="listings")
        )
        listings, keys = listed["listings"], listed[KEYS]
        if self.run.base is not None and not self.run.request.is_ready:
            listings, compared = (listings, keys, listed[CONTAINERS]) | "Compare" >> CompareItems(self.run, bits)
        else:
            compared = keys | "ByKeyHash" >> beam.GroupByKey() | "FindRepeated" >> beam.ParDo(_FindRepeated(self.run))
        return (
            begin
            | "Plan" >> beam.Create([self.run.generation])
            | "CommitPlan"
            >> beam.ParDo(
                _CommitPlan(self.run, self.first_shard, self.worker_memory, self.max_gone_ratio),
                AsList(listings),
                AsList(compared),
                AsList(listed[CONTAINERS]),
                AsList(listed[BESIDE]),
            )
            | "PlanDone" >> FinishStage(self.run, "plan")
        )


class _FindRepeated(RunTask):
    """Finds keys that two items share, among the keys of one bucket."""

    def process(self, bucket: tuple[int, Iterable[KeyBatch]]) -> Iterator[BucketChanges]:
        number, batches = bucket
        yield from repeats_in(self._run, number, batches)


class _CommitPlan(RunTask):
    def __init__(self, run: Run, first_shard: int, worker_memory: int | None, max_gone_ratio: float) -> None:
        super().__init__(run)
        self._first_shard, self._worker_memory, self._max_gone_ratio = first_shard, worker_memory, max_gone_ratio

    def process(
        self,
        generation: int,
        listed: Sequence[Listing | ReadyFile | RootPart],
        compared: Sequence[BucketChanges],
        skippable: Sequence[SkippableFile],
        beside: Sequence[Beside],
    ) -> Iterator[int]:
        commit_plan(
            self._run, self._first_shard, self._worker_memory, self._max_gone_ratio, listed, compared, skippable, beside
        )
        yield generation
