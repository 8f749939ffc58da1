"""Brings an index up to date: embeds what is new or changed, and drops what is gone.

Every night, with nothing but the root: sources, encoder and index options are those of the generation that is there:

    pixdex reindex --root ./photos

What would be done, and nothing else:

    pixdex reindex --root ./photos --dry-run

Rejects are not tried again while nothing changes; all of them anew, or those of one type:

    pixdex reindex --root ./photos --retry-rejects
    pixdex reindex --root ./photos --retry-rejects ConnectionError

What missing or damaged shards held, anew from the sources:

    pixdex reindex --root ./photos --repair

On a Flink cluster, as pixdex build:

    pixdex reindex --root /shared/photos \\
        --runner PortableRunner --job_endpoint flink-jobserver:8099 \\
        --environment_type EXTERNAL --environment_config localhost:50000

On Dataflow, with everything on Cloud Storage:

    pixdex reindex --root gs://bucket/photos \\
        --runner DataflowRunner --project my-project --region europe-west1 --temp_location gs://bucket/temp \\
        --sdk_container_image my-registry/pixdex:0.1.0

New and changed items become a delta, which searches scan beside the merged index; rows of what is gone or changed
become tombstones, which searches drop. With more than --max-deltas of the one, or more than a share of --max-tombstones
of the other, all shard indexes are merged anew, without dead rows. Where the vectors have drifted away from what the
index was trained on, it is trained anew, and every stored embedding is added again; nothing is embedded twice.

A CSV that names no pictures, and a file of ready embeddings, is not opened while its modification time (or ETag) stays.
One run at a time: a second one says who is at it, and exits with 1. A run that was stopped goes on where it was; what
changed in the sources since then waits for the next run. Nothing to do: no new generation, and exit code 0.

The last line on stdout is one JSON object: the totals of the generation, with what this run embedded and found.
"""

import argparse
import shlex
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from apache_beam.runners.runner import PipelineRunner

from pipelines.running import dataflow, launch, runners
from pipelines.running.request import check
from pipelines.terminal import console, flags, options
from transforms.errors import PixdexError, UsageError
from transforms.generations import published as generations
from transforms.generations.manifest import Generation
from transforms.records import Changes, Plan, Reindex, Request
from transforms.runs import beginning, inventory
from transforms.runs.run import Run
from transforms.stages.plan import PlanItems
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep import lease

RETRAIN = ("auto", "never", "always")
ALL_REJECTS = "all"


class ReindexOptions(options.RootOptions):
    """What is done about it."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.add(
            parser,
            "--retrain",
            choices=RETRAIN,
            default="auto",
            help="train the index anew: where the vectors drifted (auto), or never, or always; default auto",
        )
        flags.add(
            parser,
            "--retry-rejects",
            action="append",
            nargs="?",
            const=ALL_REJECTS,
            metavar="TYPE",
            help="try rejects again though nothing changed: all, or those of a type as pixdex inspect names it; "
            "repeatable",
        )
        flags.add(
            parser,
            "--max-deltas",
            type=flags.whole,
            default=Reindex.max_deltas,
            metavar="N",
            help="shard indexes that searches scan beside the merged one; with more, all are merged (default 4)",
        )
        flags.add(
            parser,
            "--max-tombstones",
            type=options.ratio,
            default=Reindex.max_tombstones,
            metavar="SHARE",
            help="dead codes among those that searches scan, 0 to 1; with more, they are dropped (default 0.05)",
        )
        flags.add(
            parser,
            "--repair",
            action="store_true",
            help="check every shard, and embed anew what missing or damaged ones held",
        )
        # Only so: Beam has a flag --dry_run of its own.
        parser.add_argument("--dry-run", action="store_true", help="say what changed, and change nothing")


OPTIONS = (options.RootOptions, ReindexOptions, options.RunOptions)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: reindex(arguments))


def reindex(argv: Sequence[str]) -> int:
    """Parses, compares, runs what is to be done, and reports."""
    argv = ["--dry-run" if word == "--dry_run" else word for word in argv]
    own, beam_flags = options.parse("reindex", __doc__, argv, OPTIONS)
    runner = runners.chosen(beam_flags)
    beam_argv = [*argv, *runners.on_this_machine(own.workers, runner)]
    store = launch.opened(own)
    published = _published(store)
    if dataflow.is_asked(runner):
        dataflow.check(own.root, published.request.sources, beam_flags)
        beam_argv = [*beam_argv, *dataflow.settings(beam_flags)]
    if own.dry_run:
        return _show_changes(store, published, own, runner)
    with lease.held(store, "reindex") as held:
        store.sweep_scratch()
        # In this order, and under the lease: a run that another launcher finished is seen as the one or as the other.
        unfinished, published = beginning.unfinished(store), _published(store)
        request = _request(published, own)
        if unfinished is None or own.abandon_plan or not run_is_planned(unfinished):
            check(published.request.sources)
        run = launch.begin(store, request, unfinished, abandon=own.abandon_plan)
        held.of_run(run.generation)
        outcome, seconds = launch.carry_out(run, "publish", own, runner, beam_argv)
        if outcome == "handed_over":
            held.keep()
        return _report(store, run, own, seconds) if outcome == "done" else console.DONE


def run_is_planned(run: Run) -> bool:
    """Tells whether the sources of a run were listed."""
    return run.store.exists(layout.plan(run.generation))


def _published(store: Store) -> Generation:
    published = generations.current(store)
    if published is None and store.local is not None and not store.local.is_dir():
        raise UsageError(f"--root {store.local}: there is no such folder; check its spelling")
    if published is None:
        root = shlex.quote(str(store.local or store.url))
        raise UsageError(f"{store.url} has no generation yet: make one with: pixdex build --root {root} …")
    if published.tables.keys is None and not published.request.is_ready:
        raise UsageError(
            f"{store.url} was built by a pixdex that kept no key tables, so that nothing can be compared with it: "
            "build into a new root"
        )
    return published


def _request(published: Generation, own: Namespace) -> Request:
    asked: list[str] | None = own.retry_rejects
    retry = None if asked is None else () if ALL_REJECTS in asked else tuple(sorted(set(asked)))
    goes_on = Reindex(published.generation, own.retrain, retry, own.max_deltas, own.max_tombstones, own.repair)
    return replace(published.request, reindex=goes_on)


def _show_changes(store: Store, published: Generation, own: Namespace, runner: PipelineRunner | None) -> int:
    """Plans in a folder that is thrown away."""
    if runner is not None:
        raise UsageError("--dry-run lists the sources with this machine: leave --runner out")
    check(published.request.sources)
    with tempfile.TemporaryDirectory(prefix="pixdex-") as folder:
        run = replace(beginning.begin(Store.at(folder), _request(published, own)), base_root=store)
        runners.run_to_end(None, lambda pipeline: pipeline | "Plan" >> PlanItems(run, 0), [])
        plan = run.plan
    console.say(changes_text(plan))
    console.show_json({"generation": published.generation, **_changes(plan), "dry_run": True})
    return console.DONE


def _report(store: Store, run: Run, own: Namespace, seconds: dict[str, float]) -> int:
    idle = inventory.is_idle(run)
    generation = generations.current(store)
    if generation is None or (generation.generation != run.generation and not idle):
        raise PixdexError(f"{store.url}: the job ended without generation {run.generation}; run the same command again")
    shards = run.shards()
    embedded = sum(marker.items - marker.rejected for marker in shards)
    why = "" if idle else run.drift.why
    if not own.no_progress:
        console.say(changes_text(run.plan))
        if idle:
            console.say(f"{store.url}: generation {generation.generation} is up to date: nothing to do")
        else:
            console.say(f"trained anew: {why}" if why else "the trained index stays")
            console.say(launch.totals(store, generation))
    said = launch.summary(store, generation, seconds) | {"embedded": embedded}
    console.show_json({**said, **_changes(run.plan), "retrained": why or None})
    return console.DONE


def changes_text(plan: Plan) -> str:
    """Says in a line what a plan found."""
    found = plan.changes or Changes(0, 0, 0, 0, 0, 0)
    retried = f", {found.retried:,} to embed again" if found.retried else ""
    return (
        f"{found.new:,} new, {found.changed:,} changed, {found.gone:,} gone, {found.unchanged:,} unchanged, "
        f"{found.rejected:,} still rejected{retried}"
    )


def _changes(plan: Plan) -> dict[str, Any]:
    found = asdict(plan.changes or Changes(0, 0, 0, 0, 0, 0))
    return {"still_rejected" if name == "rejected" else name: count for name, count in found.items()}


if __name__ == "__main__":
    sys.exit(main())
