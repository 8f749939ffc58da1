"""The embed stage: every partition of the plan becomes one shard of embeddings, on any worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.utils.shared import Shared

from transforms.digests import digest
from transforms.forecast.machines import ANY_WORKER, Worker
from transforms.markers import ShardMarker, StageMarker
from transforms.records import Partition
from transforms.runs import beacons, partitions
from transforms.runs.beacons import Told
from transforms.runs.run import Run
from transforms.stages.barrier import FinishStage
from transforms.stages.run_task import RunTask
from transforms.tasks.embed import register
from transforms.tasks.embed.attempts import attempt
from transforms.tasks.embed.limits import USUAL, ItemLimits
from transforms.tasks.embed.reject_ratio import check_rejects
from transforms.tasks.embed.spent import PARTS

if TYPE_CHECKING:
    from transforms.tasks.derive.origin import Origin
    from transforms.tasks.embed.open_encoder import OpenedEncoder


@dataclass(eq=False)
class EmbedPartitions(beam.PTransform):
    """Embeds every partition of the plan that has no shard yet, and checks the share of rejects where all meet.

    A partition of ready embeddings is read and checked, and stays where it is. Of one of another root's rows a shard is
    made with other vectors (`tasks.derive`). `worker` is who embeds; a GPU is asked
    for nothing else. `limits` are those of one picture.

    Cost: one element a partition; pictures and vectors stay in the worker that made them. Memory of a worker is the
    encoder, one shard's vectors (at most 65,536 rows) with their metadata, four batches of preprocessed pictures, and
    the pictures being decoded (768 MB, or one larger picture).
    """

    run: Run
    max_reject_ratio: float = 0.5
    worker: Worker = ANY_WORKER
    limits: ItemLimits = USUAL

    def expand(self, planned: PCollection[StageMarker]) -> PCollection[StageMarker]:
        """Takes the marker of the plan stage."""
        return (
            planned
            | "Partitions" >> beam.ParDo(_ReadPartitions(self.run))
            # Breaks the fusion with the one reader of the plan: partitions are embedded on all workers.
            | "SpreadPartitions" >> beam.Reshuffle()
            | "EmbedPartition"
            >> beam.ParDo(EmbedPartition(self.run, self.limits)).with_resource_hints(**self.worker.hints)
            | "EmbedDone" >> FinishStage(self.run, "embed")
            | "CheckRejects" >> beam.ParDo(_CheckRejects(self.run, self.max_reject_ratio))
        )


class EmbedPartition(RunTask):
    """Embeds one partition into one shard and commits it; a partition that has its shard is left alone."""

    def __init__(self, run: Run, limits: ItemLimits = USUAL) -> None:
        """Embeds partitions of this run."""
        super().__init__(run)
        self._limits = limits
        self._shared = Shared()
        self._embedded = Metrics.counter("pixdex", "embedded_rows")
        self._rejected = Metrics.counter("pixdex", "rejected_items")
        self._skipped = Metrics.counter("pixdex", "shards_already_embedded")
        self._spent = {part: Metrics.counter("pixdex", f"{part}_ms") for part in PARTS}

    def process(self, partition: Partition) -> Iterator[int]:
        """Yields the number of the shard that stands."""
        digest = partitions.partition_digest(self._run.plan, partition)
        marker = self._run.marker("embed", partition.shard, ShardMarker, digest)
        if marker is None:
            with beacons.lit(self._run, "embed", partition.shard) as told:
                marker = self._made(partition, told)
            self._embedded.inc(marker.rows)
            self._rejected.inc(marker.rejected)
            if marker.spent is not None:
                for part, counter in self._spent.items():
                    counter.inc(round(1000 * marker.spent.seconds[part]))
        else:
            self._skipped.inc()
        yield partition.shard

    def _made(self, partition: Partition, told: Told) -> ShardMarker:
        if partition.root_parts:
            return self._derive(partition)
        return self._embed(partition, told) if partition.ready is None else self._register(partition)

    def _derive(self, partition: Partition) -> ShardMarker:
        """Makes the shard of rows of another root, which is opened once a process."""
        from transforms.tasks.derive.origin import open_origin  # noqa: PLC0415 - faiss and searches: few runs need them
        from transforms.tasks.derive.shard import derive_shard  # noqa: PLC0415 - likewise

        request = self._run.request
        origin: Origin = self._shared.acquire(lambda: open_origin(request), tag=digest(request))
        return self._run.commit("embed", partition.shard, derive_shard(self._run, partition, origin))

    def _embed(self, partition: Partition, told: Told) -> ShardMarker:
        """Embeds with the encoder, which is loaded once a process, and only where something is left to embed.

        One that the launcher lends, in whose process this is, is not loaded here at all.
        """
        # Imported here, since Pillow and an encoder are nothing that ready embeddings need.
        from transforms.tasks.embed.open_encoder import lent_encoder, open_encoder  # noqa: PLC0415
        from transforms.tasks.embed.shard import embed_partition  # noqa: PLC0415

        settings = self._run.request.encoder
        opened: OpenedEncoder | None = lent_encoder(settings)
        if opened is None:
            opened = self._shared.acquire(lambda: open_encoder(settings), tag=settings.fingerprint)
        with attempt(self._run, partition.shard) as is_guarded:
            new = embed_partition(self._run, partition, opened.encoder, self._limits, is_guarded=is_guarded, told=told)
            return self._run.commit("embed", partition.shard, new)

    def _register(self, partition: Partition) -> ShardMarker:
        return self._run.commit("embed", partition.shard, register.register(self._run, partition))


class _ReadPartitions(RunTask):
    def process(self, planned: StageMarker) -> Iterator[Partition]:
        yield from partitions.read_partitions(self._run.store, self._run.plan.partitions)


class _CheckRejects(RunTask):
    """Lets the run go on unless too many items were rejected; runs every time, since the limit may have changed."""

    def __init__(self, run: Run, limit: float) -> None:
        super().__init__(run)
        self._limit = limit

    def process(self, embedded: StageMarker) -> Iterator[StageMarker]:
        check_rejects(self._run, self._limit)
        yield embedded
