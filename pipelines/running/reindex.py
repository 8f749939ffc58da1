"""From a command line to the next generation of a root: what `reindex` does once its words are read."""

import shlex
import tempfile
from argparse import Namespace
from dataclasses import replace

from pipelines.running.destination import Destination, Outcome, work_off
from pipelines.running.launch import Launch, begin
from pipelines.running.request import check, versioned
from pipelines.terminal import console, run_report, tune_report
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.options import ALL_REJECTS
from transforms.encoders import trusted
from transforms.errors import PixdexError, UsageError
from transforms.generations import published as generations
from transforms.generations.manifest import Generation
from transforms.generations.tuned import Tuned
from transforms.records import Reindex, Request
from transforms.runs import beginning, inventory
from transforms.runs.run import Run
from transforms.storage import layout, outside
from transforms.storage.store import Store
from transforms.tasks import plan_at_once
from transforms.tasks.embed import reject_ratio
from transforms.tasks.plan import Refusal
from transforms.upkeep import lease


def reindex(line: CommandLine) -> int:
    """Compares, runs what is to be done, and reports; returns the exit code of success."""
    options = line.options
    destination = Destination.of(line)
    launch = Launch.of(options, destination)
    store = launch.store
    published = _published(store)
    if not published.request.is_ready:
        trusted.check(published.request.encoder.spec, options.encoder)
    elif options.encoder:
        raise UsageError("--encoder: this root holds ready embeddings, and a reindex encodes nothing: leave it out")
    outside.check_sources(published.request, trusted=options.trust_uris)
    destination.prepare(options.root, published.request.sources)
    if options.dry_run:
        return _show_changes(launch, published, options)
    with lease.held(store, "reindex") as held:
        store.sweep_scratch()
        # In this order, and under the lease: a run that another launcher finished is seen as the one or as the other.
        unfinished, published = beginning.unfinished(store), _published(store)
        request = _request(published, options)
        if unfinished is None or options.abandon_plan or not _goes_on(unfinished, launch):
            check(published.request.sources)
        run = begin(store, request, unfinished, launch.limits, abandon=options.abandon_plan)
        held.of_run(run.generation)
        outcome, seconds = _carried_out(launch, run)
        if outcome == "handed_over":
            held.keep()
        return _report(launch, run, seconds) if outcome == "done" else console.DONE


def _goes_on(unfinished: Run, launch: Launch) -> bool:
    """Tells whether the sources are listed already, and that of the run is not given up."""
    return unfinished.is_planned and not reject_ratio.is_refused(unfinished, launch.limits.max_reject_ratio)


def _carried_out(launch: Launch, run: Run) -> tuple[Outcome, dict[str, float]]:
    """Runs the graph; a run that is refused for its sources before it is planned is given up, and leaves its number."""
    try:
        return launch.carry_out(run, "publish")
    except UsageError:
        if not run.is_planned:
            beginning.give_up(run)
        raise


def _published(store: Store) -> Generation:
    generations.check_there(store)
    published = generations.current(store)
    if published is None:
        root = shlex.quote(str(store.local or store.url))
        raise UsageError(f"{store.url} has no generation yet: make one with: pixdex build --root {root} …")
    if (derivation := published.request.derivation) is not None:
        source = published.request.sources[0].pattern
        raise UsageError(
            f"{store.url} was made of generation {derivation.generation} of {source} by pixdex {derivation.operation}, "
            f"and lists no sources: reindex that root, and run pixdex {derivation.operation} of it into a new root"
        )
    if published.tables.keys is None and not published.request.is_ready:
        raise UsageError(
            f"{store.url} was built by a pixdex that kept no key tables, so that nothing can be compared with it: "
            "build into a new root"
        )
    return published


def _request(published: Generation, options: Namespace) -> Request:
    asked: list[str] | None = options.retry_rejects
    retry = None if asked is None else () if ALL_REJECTS in asked else tuple(sorted(set(asked)))
    goes_on = Reindex(
        published.generation, options.retrain, retry, options.max_deltas, options.max_tombstones, options.repair
    )
    asked_for = options.refine_store or published.request.index.refine
    if asked_for != published.request.index.refine and options.retrain != "always":
        raise UsageError(
            f"--refine-store {asked_for}: this root has {published.request.index.refine}; all vectors are stored anew "
            "with --retrain always, so say that too"
        )
    index = replace(published.request.index, refine=asked_for)
    return versioned(replace(published.request, index=index, reindex=goes_on))


def _show_changes(launch: Launch, published: Generation, options: Namespace) -> int:
    """Plans in a folder that is thrown away.

    Raises:
        UsageError: a night would be stopped, for what it found gone; said after what changed.
    """
    if launch.destination.runner is not None:
        raise UsageError("--dry-run lists the sources with this machine: leave --runner out")
    check(published.request.sources)
    with tempfile.TemporaryDirectory(prefix="pixdex-") as folder:
        run = replace(beginning.begin(Store.at(folder), _request(published, options)), base_root=launch.store)
        if not plan_at_once.plan(run, 0, None, launch.limits.max_gone_ratio):
            from transforms.stages.plan import PlanItems  # noqa: PLC0415 - imports Beam, which few dry runs need

            planning = PlanItems(run, 0, max_gone_ratio=launch.limits.max_gone_ratio)
            work_off(lambda pipeline: pipeline | "Plan" >> planning)
        plan, beside = run.plan, run_report.beside(run.store, run.plan.containers)
        lines = [run_report.changes_text(plan), *run_report.beside_text(run.store, plan.containers)]
        refusal = run.store.find_record(layout.refusal(run.generation), Refusal)
    for line in lines:
        console.say(line)
    console.show_json({"generation": published.generation, **run_report.changes(plan), **beside, "dry_run": True})
    if refusal is not None:
        raise UsageError(refusal.why)
    return console.DONE


def _report(launch: Launch, run: Run, seconds: dict[str, float]) -> int:
    store = launch.store
    idle = inventory.is_idle(run)
    generation = generations.current(store)
    if generation is None or (generation.generation != run.generation and not idle):
        raise PixdexError(f"{store.url}: the job ended without generation {run.generation}; run the same command again")
    shards = run.shards()
    embedded = sum(marker.items - marker.rejected for marker in shards if not marker.is_carried)
    reasons = reject_ratio.reasons_of_run(run)
    why = "" if idle else run.drift.why
    tuned = None if run.base is None else run.base.tuned
    lost = "" if idle else tune_report.lost(tuned, generation)
    if not launch.quiet:
        console.say(run_report.changes_text(run.plan))
        if idle:
            tried = "each of them was rejected again" if inventory.tried_in_vain(run) else "nothing to do"
            console.say(f"{store.url}: generation {generation.generation} is up to date: {tried}")
        else:
            console.say(f"trained anew: {why}" if why else "the trained index stays")
            console.say(run_report.totals_text(store, generation, reasons))
            for line in run_report.embedding_text(shards, generation):
                console.say(line)
            if lost:
                console.say(lost)
            for line in run_report.report_text(store, generation):
                console.say(line)
        for line in run_report.beside_text(store, run.plan.containers):
            console.say(line)
    summary = run_report.summary(store, generation, seconds, reasons, shards) | run_report.beside(
        store, run.plan.containers
    )
    summary["embedded"] = embedded
    console.show_json({**summary, **run_report.changes(run.plan), "retrained": why or None, **_of_tuned(tuned, lost)})
    return console.DONE


def _of_tuned(tuned: Tuned | None, lost: str) -> dict[str, object]:
    """Why a promise of before holds no longer, where there was one."""
    return {} if tuned is None else {"promise_lost": lost or None}
