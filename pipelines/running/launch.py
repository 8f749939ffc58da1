"""A command on its way to its runner: what it brings along, its run, and its graph up to a stage."""

import contextlib
import time
from argparse import Namespace
from dataclasses import dataclass, replace

from pipelines.running.destination import Destination, Outcome
from pipelines.running.request import difference
from pipelines.terminal import console
from pipelines.terminal.options import item_limits_of
from pipelines.terminal.progress import ahead
from pipelines.terminal.progress.metrics import Metrics
from pipelines.terminal.progress.shown import Way, is_quiet, shown, way_of
from transforms.errors import UsageError
from transforms.forecast.machines import Workers, workers_for
from transforms.forecast.memory import machine_memory
from transforms.records import Request
from transforms.rejects import normalised_message
from transforms.runs import beacons, beginning, worked_on
from transforms.runs.progress import stage_seconds
from transforms.runs.run import Run, Stage
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import plan_at_once
from transforms.tasks.embed import reject_ratio
from transforms.tasks.embed.limits import USUAL, ItemLimits


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

    def carry_out(self, run: Run, last: Stage) -> tuple[Outcome, dict[str, float]]:
        """Runs a run's graph up to a stage and shows how it goes.

        Returns:
            What became of the graph, which the last line says where it did not run to its end; and the seconds of each
            stage.
        """
        if run.request.reindex is None:
            self.destination.get_ready()  # before the clock, for it is of no stage; a night may need none of it
        started = time.time()  # the clock that stage markers use
        beacons.clear(run)
        is_here = self.destination.runner is None  # with another runner the work may go on without this process
        here = worked_on.by_this_process(run) if is_here else contextlib.nullcontext()
        with here, shown(run, self.way, last=last, metrics=self.metrics, workers=self.workers) as seen:
            outcome = self._carried_out(run, last, started)
            seen.is_over = outcome == "done"
        if outcome == "done" and is_here:
            ahead.remember(run, seen.follower.took, self.workers)
        if outcome != "done":
            console.show_json({"generation": run.generation, outcome: last})
        return outcome, stage_seconds(run, started)

    def _carried_out(self, run: Run, last: Stage, started: float) -> Outcome:
        limits, workers = self.limits, Workers()
        if self.destination.says_nothing:
            first_shard = beginning.next_shard(run.store)
            planned = plan_at_once.plan(run, first_shard, limits.worker_memory, limits.max_gone_ratio)
            if planned and plan_at_once.end_if_idle(run):
                return "done"
        elif self.destination.is_dataflow:
            workers = workers_for(run.request, limits.worker_memory, self.accelerator)
            limits = replace(limits, worker_memory=workers.task_memory or limits.worker_memory)
        self.destination.get_ready()
        from pipelines.running.graph.wiring import wire  # noqa: PLC0415 - imports Beam

        return self.destination.run(
            lambda pipeline: wire(pipeline, run, last, limits, workers, started if self.report else None)
        )


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
            raise unfinished_of_another(store, difference(unfinished.request, request))
        beginning.abandon(unfinished)
        why = ", too many of whose items were rejected: all are listed and embedded anew" if refused else ""
        console.say(f"gave up the unfinished run of generation {unfinished.generation}{why}")
    if not beginning.runs(store):
        store.probe()
    return beginning.begin(store, request)


def unfinished_of_another(store: Store, told: str) -> UsageError:
    """The error for a run that is in the way, of a request that differs in what is told."""
    return UsageError(
        f"{store.url} has an unfinished run of another request ({told}): finish it with its own command, or give it up "
        "with --abandon-plan"
    )


def memory_of(options: Namespace) -> int | None:
    """Returns the bytes that a worker has: as the options say, or of several processes of this machine each its share.

    None: one process, which has all of it.
    """
    if options.worker_memory or options.workers in (None, 1):
        return options.worker_memory or None
    return machine_memory() // int(options.workers)
