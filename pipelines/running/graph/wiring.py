"""The graph of a run: its stages, one behind the other."""

from typing import TYPE_CHECKING, Any

import apache_beam as beam

from transforms.forecast.machines import Worker, Workers
from transforms.runs import beginning
from transforms.runs.run import Run, Stage
from transforms.stages.add import AddBlocks
from transforms.stages.compact import CompactBlocks
from transforms.stages.drift import MeasureDrift
from transforms.stages.embed import EmbedPartitions
from transforms.stages.keys import UpdateKeys
from transforms.stages.merge import MergeBlocks
from transforms.stages.plan import PlanItems
from transforms.stages.publish import PublishGeneration
from transforms.stages.report import ReportGeneration
from transforms.stages.tombstones import BuryRows
from transforms.stages.train import TrainIndex

if TYPE_CHECKING:
    from pipelines.running.launch import RunLimits


def wire(
    pipeline: beam.Pipeline,
    run: Run,
    last: Stage,
    limits: "RunLimits",
    workers: Workers | None = None,
    report_since: float | None = None,
) -> None:
    """The graph up to a stage: each stage waits for the one before through the marker that it yields.

    What is published gets a report, where `report_since` says when the job started.
    """
    workers = workers or Workers()
    other, indexing = workers.other, workers.indexing
    stages: dict[Stage, tuple[str, beam.PTransform[Any, Any], Worker]] = {
        "embed": ("Embed", EmbedPartitions(run, limits.max_reject_ratio, workers.embedding, limits.item), other),
        "keys": ("Keys", UpdateKeys(run), indexing),
        "tombstones": ("Tombstones", BuryRows(run), other),
        "drift": ("Drift", MeasureDrift(run), indexing),
        "train": ("Train", TrainIndex(run), indexing),
        "add": ("Add", AddBlocks(run), indexing),
        "compact": ("Compact", CompactBlocks(run), indexing),
        "merge": ("Merge", MergeBlocks(run), indexing),
        "publish": ("Publish", PublishGeneration(run), other),
    }
    plan = PlanItems(run, beginning.next_shard(run.store), limits.worker_memory, limits.max_gone_ratio)
    done = pipeline | "Plan" >> plan.with_resource_hints(**other.hints)
    for stage, (label, transform, worker) in stages.items():
        done = done | label >> transform.with_resource_hints(**worker.hints)
        if stage == last:
            break
    if last == "publish" and report_since is not None:
        _ = done | "Report" >> ReportGeneration(run, report_since).with_resource_hints(**other.hints)
