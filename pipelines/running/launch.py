"""From a command line to a run and through its graph: what `build` and the commands for its single stages share."""

import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from pipelines.running import dataflow, runners
from pipelines.running.request import check, difference, request_of, request_of_vectors
from pipelines.terminal import console, options, progress
from transforms.errors import PixdexError, UsageError
from transforms.forecast.machines import Worker, Workers, workers_for
from transforms.forecast.memory import machine_memory
from transforms.generations import published as generations
from transforms.generations.manifest import Generation
from transforms.index.index_key import IndexKey
from transforms.records import Request, Source
from transforms.rejects import normalised_message
from transforms.runs import beginning
from transforms.runs.run import Run, Stage
from transforms.sources import vectors
from transforms.stages.add import AddBlocks
from transforms.stages.compact import CompactBlocks
from transforms.stages.drift import MeasureDrift
from transforms.stages.embed import EmbedPartitions
from transforms.stages.keys import UpdateKeys
from transforms.stages.merge import MergeBlocks
from transforms.stages.plan import PlanItems
from transforms.stages.publish import PublishGeneration
from transforms.stages.tombstones import BuryRows
from transforms.stages.train import TrainIndex
from transforms.storage import layout
from transforms.storage.store import Store

if TYPE_CHECKING:
    from apache_beam.runners.runner import PipelineRunner

    from transforms.encoders import Encoder

OPTIONS = (
    options.RootOptions,
    options.SourceOptions,
    options.EncoderOptions,
    options.DeviceOptions,
    options.IndexOptions,
    options.RunOptions,
)


def launch(job: str, manual: str, argv: Sequence[str], last: Stage) -> int:
    """Parses, checks, runs every stage up to `last` that is not done, and reports.

    Args:
        job: name of the command.
        manual: what its `--help` prints.
        argv: the words after it.
        last: the stage to end with.

    Returns:
        The exit code of success; everything else is an error that says what to do.
    """
    own, beam_flags = options.parse(job, manual, argv, OPTIONS)
    runner = runners.chosen(beam_flags)
    argv = [*argv, *runners.on_this_machine(own.workers, runner)]
    sources = options.sources(own)
    if dataflow.is_asked(runner):
        dataflow.check(own.root, sources, beam_flags)
        argv = [*argv, *dataflow.settings(beam_flags)]
    store = opened(own)
    planned = not own.abandon_plan and _goes_on(store, sources)
    if not planned:
        check(sources)
    encoder = None if own.vectors else _load_encoder(own, in_process=runner is None)
    dim = encoder.dim if encoder else _dimension(store, sources, planned=planned)
    # In this order: a run that another launcher finishes at this moment is seen as the one or as the other.
    unfinished, published = beginning.unfinished(store), generations.current(store)
    own.encoder_threads = own.encoder_threads or _threads(unfinished, published, own.workers or 1)
    request = request_of(own, sources, encoder) if encoder else request_of_vectors(own, sources, dim)
    store.sweep_scratch()
    if unfinished is not None and published is not None and own.abandon_plan:
        beginning.abandon(unfinished)
    if published is not None and _claims(store, published, request):
        console.say(f"{store.url} already has generation {published.generation} of this request: nothing to do")
        if dataflow.is_template(beam_flags):
            runners.run_to_end(runner, dataflow.nothing, argv)
        console.show_json(summary(store, published, {}) | {"embedded": 0})
        return console.DONE
    run = begin(store, request, unfinished, abandon=own.abandon_plan)
    if not own.no_progress:
        where = encoder.device if encoder and runner is None else f"the workers' {own.device} device"
        made = f"encoder {own.encoder} on {where}" if encoder else "ready embeddings, which workers will count"
        console.say(f"{made}, {dim} dimensions")
    outcome, seconds = carry_out(run, last, own, runner, argv)
    if outcome != "done":
        return console.DONE
    if last != "publish":
        console.show_json({"generation": run.generation, "done": last, "seconds": seconds})
        return console.DONE
    generation = generations.current(store)
    if generation is None:
        raise PixdexError(f"{store.url}: the job ended without a generation; run the same command again")
    _say_other_key(request, generation)
    if not own.no_progress:
        console.say(totals(store, generation))
    console.show_json(summary(store, generation, seconds))
    return console.DONE


def carry_out(
    run: Run, last: Stage, own: Namespace, runner: "PipelineRunner | None", argv: Sequence[str]
) -> tuple[runners.Outcome, dict[str, float]]:
    """Runs a run's graph up to a stage and shows how it goes.

    Returns:
        What became of the graph, which the last line says where it did not run to its end; and the seconds of each
        stage.
    """
    started = progress.now()
    with progress.shown(run, wanted=not own.no_progress, last=last):
        on_dataflow = dataflow.is_asked(runner)
        workers = workers_for(run.request, own.worker_memory, own.accelerator) if on_dataflow else Workers()
        limits = RunLimits(own.max_reject_ratio, workers.task_memory or own.worker_memory or _share(own.workers))
        outcome = runners.run_to_end(runner, lambda pipeline: wire(pipeline, run, last, limits, workers), argv)
    if outcome != "done":
        console.show_json({"generation": run.generation, outcome: last})
    return outcome, progress.stage_seconds(run, started)


@dataclass(frozen=True)
class RunLimits:
    """What a run refuses to exceed; neither changes a byte of the result.

    Attributes:
        max_reject_ratio: share of rejected items.
        worker_memory: bytes that a worker has; None: those of the machine that it finds itself on.
    """

    max_reject_ratio: float = 0.5
    worker_memory: int | None = None


def wire(pipeline: beam.Pipeline, run: Run, last: Stage, limits: RunLimits, workers: Workers | None = None) -> None:
    """The graph up to a stage: each stage waits for the one before through the marker that it yields."""
    # What the launcher has read of them does not travel.
    run = replace(run, store=replace(run.store))
    workers = workers or Workers()
    other, indexing = workers.other, workers.indexing
    stages: dict[Stage, tuple[str, beam.PTransform[Any, Any], Worker]] = {
        "embed": ("Embed", EmbedPartitions(run, limits.max_reject_ratio, workers.embedding), other),
        "keys": ("Keys", UpdateKeys(run), indexing),
        "tombstones": ("Tombstones", BuryRows(run), other),
        "drift": ("Drift", MeasureDrift(run), indexing),
        "train": ("Train", TrainIndex(run), indexing),
        "add": ("Add", AddBlocks(run), indexing),
        "compact": ("Compact", CompactBlocks(run), indexing),
        "merge": ("Merge", MergeBlocks(run), indexing),
        "publish": ("Publish", PublishGeneration(run), other),
    }
    plan = PlanItems(run, beginning.next_shard(run.store), limits.worker_memory)
    done = pipeline | "Plan" >> plan.with_resource_hints(**other.hints)
    for stage, (label, transform, worker) in stages.items():
        done = done | label >> transform.with_resource_hints(**worker.hints)
        if stage == last:
            return


def summary(store: Store, generation: Generation, seconds: dict[str, float]) -> dict[str, object]:
    """Returns the last line of a build."""
    totals = generation.totals
    return {
        "generation": generation.generation,
        "items": totals.items,
        "embedded": totals.embedded,
        "rejected": totals.rejected,
        "vectors": totals.vectors,
        "tombstones": totals.tombstones,
        "index_key": generation.trained.key,
        "trained": generation.trained.fingerprint,
        "index": store.full(generation.index.path),
        "seconds": seconds,
    }


def totals(store: Store, generation: Generation) -> str:
    """Says in a line what a generation holds and, when something was rejected, how to see why."""
    found = generation.totals
    why = f" (pixdex inspect --root {shlex.quote(str(store.local or store.url))} says why)" if found.rejected else ""
    return (
        f"{found.items:,} items: {found.embedded:,} embedded, {found.rejected:,} rejected{why}; "
        f"{found.vectors:,} vectors, index {generation.trained.key}"
    )


def _load_encoder(own: Namespace, *, in_process: bool) -> "Encoder":
    from transforms import encoders  # noqa: PLC0415 - ready embeddings need no Pillow

    own.encoder = own.encoder or options.DEFAULT_ENCODER
    # A launcher of workers elsewhere need not have their device.
    return encoders.load(own.encoder, device=own.device if in_process else "cpu")


def _dimension(store: Store, sources: tuple[Source, ...], *, planned: bool) -> int:
    """The dimension of ready embeddings.

    Of sources that are planned or published it is known: what happened to their files since is seen where they are
    read, or does not matter any more. Of others the first file with vectors says it, and workers look at the rest.
    """
    for stands in (beginning.unfinished(store) if planned else None, generations.current(store)):
        if stands is not None and stands.request.sources == sources:
            return stands.request.encoder.dim
    return vectors.dimension(sources)


def _threads(unfinished: Run | None, published: Generation | None, workers: int) -> int:
    """The threads of what the root already has, so that the same command is the same request on any machine."""
    stands = unfinished or published
    return stands.request.encoder.threads if stands else options.default_threads(workers)


def _share(workers: int | None) -> int | None:
    """The memory of each of several processes of this machine, in bytes; None for one, which has all of it."""
    return None if workers in (None, 1) else machine_memory() // workers


def _say_other_key(request: Request, generation: Generation) -> None:
    asked, made = request.index.key, generation.trained.key
    if asked != "auto" and IndexKey.parse(asked).nlist not in (0, IndexKey.parse(made).nlist):
        console.say(f"--index-key {asked} became {made}: too few vectors for more lists")


def opened(own: Namespace) -> Store:
    """Returns the root that the options name.

    Raises:
        UsageError: none is named, or it cannot be read.
    """
    if not own.root:
        raise UsageError("--root is missing: name the folder that will hold the index")
    store = Store.at(own.root)
    if store.local is None:
        try:
            store.names(layout.GENERATIONS)
        except Exception as error:  # every object store raises its own
            raise UsageError(
                f"--root {own.root} cannot be read ({normalised_message(error)}): see to its address and credentials"
            ) from error
    return store


def _claims(store: Store, published: Generation, request: Request) -> bool:
    """Tells whether the root holds this very request.

    Raises:
        UsageError: it holds another one.
    """
    if published.request == request:
        return True
    stands = published.request
    raise UsageError(
        f"{store.url} already has generation {published.generation} of another request "
        f"({difference(stands, request)}): use 'pixdex reindex' for new items, or a new root"
    )


def _goes_on(store: Store, sources: tuple[Source, ...]) -> bool:
    """Tells whether these sources are planned already: what changed in them since then waits for the next run."""
    unfinished = beginning.unfinished(store)
    return unfinished is not None and _is_planned(unfinished) and unfinished.request.sources == sources


def _is_planned(run: Run) -> bool:
    return run.store.exists(layout.plan(run.generation))


def begin(store: Store, request: Request, unfinished: Run | None, *, abandon: bool) -> Run:
    """Adopts the unfinished run of this request, or begins a new one.

    `abandon` gives up any unfinished run, of this request too: its files may be what is wrong.

    A run of another request that has no plan yet has done no work, so it is given up without asking: a mistake in its
    sources must not stand in the way of the mended command.
    """
    if unfinished is not None and unfinished.request == request and not abandon:
        console.say(f"going on with the unfinished run of generation {unfinished.generation}")
        return unfinished
    if unfinished is not None:
        if _is_planned(unfinished) and not abandon:
            raise UsageError(
                f"{store.url} has an unfinished run of another request ({difference(unfinished.request, request)}): "
                "finish it with its own command, or give it up with --abandon-plan"
            )
        beginning.abandon(unfinished)
        console.say(f"gave up the unfinished run of generation {unfinished.generation}")
    if not beginning.runs(store):
        store.probe()
    return beginning.begin(store, request)
