"""A command on its way to its runner: what it brings along, its run, and its graph up to a stage."""

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.running import beam_options, dataflow, runners
from pipelines.running.request import difference
from pipelines.terminal import console
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.options import item_limits_of
from pipelines.terminal.progress.metrics import Metrics
from pipelines.terminal.progress.shown import Way, is_quiet, shown, way_of
from transforms.errors import UsageError
from transforms.forecast.machines import Worker, Workers, workers_for
from transforms.forecast.memory import machine_memory
from transforms.records import Request, Source
from transforms.rejects import normalised_message
from transforms.runs import beacons, beginning
from transforms.runs.progress import stage_seconds
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
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.embed import reject_ratio
from transforms.tasks.embed.limits import USUAL, ItemLimits

if TYPE_CHECKING:
    from apache_beam.runners.runner import PipelineRunner


@dataclass(frozen=True)
class RunLimits:
    """What a run refuses to exceed; none changes a byte of what is embedded.

    Attributes:
        max_reject_ratio: share of rejected items.
        max_gone_ratio: share of a source's items that a reindex finds gone.
        worker_memory: bytes that a worker has; None: those of the machine that it finds itself on.
        item: what one picture may cost.
    """

    max_reject_ratio: float = 0.5
    max_gone_ratio: float = 0.5
    worker_memory: int | None = None
    item: ItemLimits = USUAL


@dataclass(frozen=True)
class Destination:
    """Where a graph goes, as the flags of Beam say.

    Attributes:
        options: of Beam, parsed once; the command's own are among them, so that consoles show them.
        runner: what runs the graph; None: this process.
    """

    options: PipelineOptions
    runner: "PipelineRunner | None"

    @classmethod
    def of(cls, line: CommandLine) -> "Destination":
        """Reads Beam's flags of a command.

        Raises:
            UsageError: a flag that nobody has, no such runner, or something that it needs is missing.
        """
        options = beam_options.of(line)
        runner = runners.chosen(options, line.words)
        runners.share_this_machine(options, line.options.workers, runner)
        return cls(options, runner)

    @property
    def is_dataflow(self) -> bool:
        """Tells whether the graph goes to Dataflow."""
        return dataflow.is_asked(self.runner)

    def prepare(self, root: str | None, sources: Sequence[Source]) -> None:
        """Refuses what Dataflow could not do, before anything is written, and says how it is to work.

        Raises:
            UsageError: names what is missing and the way out.
        """
        if self.is_dataflow:
            dataflow.check(root, sources, self.options)
            dataflow.one_task_a_machine(self.options)


@dataclass(frozen=True)
class Launch:
    """What a command brings along for its run.

    Attributes:
        store: the root.
        destination: where the graph goes.
        limits: what the run refuses to exceed.
        accelerator: GPU of the workers that embed, on Dataflow; None: the usual one.
        way: how progress is shown.
        metrics: what keeps the figures of the run; None: nothing does.
        workers: processes of this machine.
        report: what is published gets a report.
    """

    store: Store
    destination: Destination
    limits: RunLimits
    accelerator: str | None
    way: Way
    metrics: Metrics | None = None
    workers: int = 1
    report: bool = True

    @property
    def quiet(self) -> bool:
        """Whether nothing is said on the way but what is progress."""
        return is_quiet(self.way)

    @classmethod
    def of(cls, options: Namespace, destination: Destination) -> "Launch":
        """Collects it from the options of a job.

        Raises:
            UsageError: no root is named, or it cannot be read; or metrics cannot be written.
        """
        limits = RunLimits(
            options.max_reject_ratio,
            options.max_gone_ratio,
            memory_of(options),
            item_limits_of(options),
        )
        store = opened(options.root)
        return cls(
            store,
            destination,
            limits,
            options.accelerator,
            way_of(options),
            Metrics.of(options.metrics, store.url),
            options.workers or 1,
            report=not options.no_report,
        )

    def carry_out(self, run: Run, last: Stage) -> tuple[runners.Outcome, dict[str, float]]:
        """Runs a run's graph up to a stage and shows how it goes.

        Returns:
            What became of the graph, which the last line says where it did not run to its end; and the seconds of each
            stage.
        """
        started = time.time()  # the clock that stage markers use
        limits, workers = self.limits, Workers()
        beacons.clear(run)
        with shown(run, self.way, last=last, metrics=self.metrics, workers=self.workers) as seen:
            if self.destination.is_dataflow:
                workers = workers_for(run.request, limits.worker_memory, self.accelerator)
                limits = replace(limits, worker_memory=workers.task_memory or limits.worker_memory)
            outcome = runners.run_to_end(
                self.destination.runner,
                lambda pipeline: wire(pipeline, run, last, limits, workers, started if self.report else None),
                self.destination.options,
            )
            seen.is_over = outcome == "done"
        if outcome != "done":
            console.show_json({"generation": run.generation, outcome: last})
        return outcome, stage_seconds(run, started)


def wire(
    pipeline: beam.Pipeline,
    run: Run,
    last: Stage,
    limits: RunLimits,
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


def opened(root: str | None, flag: str = "--root") -> Store:
    """Returns the root of this name, which a flag gives.

    Raises:
        UsageError: none is named, or it cannot be read.
    """
    if not root:
        raise UsageError(f"{flag} is missing: name the folder that will hold the index")
    store = Store.at(root)
    if store.local is None:
        try:
            store.names(layout.GENERATIONS)
        except Exception as error:  # every object store raises its own
            raise UsageError(
                f"{flag} {root} cannot be read ({normalised_message(error)}): see to its address and credentials"
            ) from error
    return store


def begin(store: Store, request: Request, unfinished: Run | None, limits: RunLimits, *, abandon: bool) -> Run:
    """Adopts the unfinished run of this request, or begins a new one.

    `abandon` gives up any unfinished run, of this request too: its files may be what is wrong.

    A run of another request that has no plan yet has done no work, so it is given up without asking: a mistake in its
    sources must not stand in the way of the mended command. One of this request that was refused for its rejects, and
    would be again, is given up too: whoever runs the command again has mended the sources, which that run listed.
    """
    if unfinished is not None:
        same = unfinished.request == request
        refused = same and reject_ratio.is_refused(unfinished, limits.max_reject_ratio)
        if same and not refused and not abandon:
            console.say(f"going on with the unfinished run of generation {unfinished.generation}")
            return unfinished
        if unfinished.is_planned and not abandon and not refused:
            raise UsageError(
                f"{store.url} has an unfinished run of another request ({difference(unfinished.request, request)}): "
                "finish it with its own command, or give it up with --abandon-plan"
            )
        beginning.abandon(unfinished)
        why = ", too many of whose items were rejected: all are listed and embedded anew" if refused else ""
        console.say(f"gave up the unfinished run of generation {unfinished.generation}{why}")
    if not beginning.runs(store):
        store.probe()
    return beginning.begin(store, request)


def memory_of(options: Namespace) -> int | None:
    """Returns the bytes that a worker has: as the options say, or of several processes of this machine each its share.

    None: one process, which has all of it.
    """
    if options.worker_memory or options.workers in (None, 1):
        return options.worker_memory or None
    return machine_memory() // int(options.workers)
