"""From a command line to a root that is made of another one: what `augment` and `condense` do once words are read."""

import os
from argparse import Namespace
from dataclasses import replace
from typing import Final

from pipelines.running.build import nothing_to_do, report
from pipelines.running.destination import Destination
from pipelines.running.launch import Launch, RunLimits, begin, memory_of, opened
from pipelines.running.request import difference, versioned
from pipelines.terminal import console
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.options import root_of
from pipelines.terminal.progress.metrics import Metrics
from pipelines.terminal.progress.shown import way_of
from transforms.derivation import Derivation, Operation
from transforms.errors import UsageError
from transforms.generations import published as generations
from transforms.generations.manifest import Generation
from transforms.records import Request, Source
from transforms.runs import beginning
from transforms.runs.run import Run
from transforms.search.searcher import Searcher
from transforms.search.slices import Whole
from transforms.search.way import show_pictures_once
from transforms.storage import outside
from transforms.storage.store import Store

_SAME: Final = ("generation", "seal", "places")
"""Fields of a derivation that say which generation it is of, and not what is asked."""


def derive(line: CommandLine, operation: Operation) -> int:
    """Checks, makes what is not made yet, and reports; returns the exit code of success."""
    options = line.options
    destination = Destination.of(line)
    root, store = root_of(options), opened(options.to, "--to")
    _check_apart(root, store, options)
    generation = generations.open_generation(root)
    outside.check_sources(generation.request, trusted=options.trust_uris)
    # In this order: a run that another launcher finishes at this moment is seen as the one or as the other.
    unfinished, published = beginning.unfinished(store), generations.current(store)
    is_new = published is None and (unfinished is None or options.abandon_plan)
    _check(root, generation, options, operation, is_new=is_new)
    request = _request(root, generation, options, operation)
    destination.prepare(options.to, request.sources)
    launch = Launch(
        store,
        destination,
        RunLimits(worker_memory=memory_of(options)),
        None,
        way_of(options),
        Metrics.of(options.metrics, store.url),
        options.workers or 1,
        report=not options.no_report,
    )
    store.sweep_scratch()
    if unfinished is not None and published is not None and options.abandon_plan:
        beginning.abandon(unfinished)
    if published is not None:
        _claim(store, published, request)
        return nothing_to_do(launch, published)
    if unfinished is not None and not options.abandon_plan:
        request = _begun(unfinished, request)
    run = begin(store, request, unfinished, launch.limits, abandon=options.abandon_plan)
    outcome, seconds = launch.carry_out(run, "publish")
    return report(launch, run, request, seconds) if outcome == "done" else console.DONE


def _check_apart(root: Store, store: Store, options: Namespace) -> None:
    one, other = (f"{os.path.realpath(at.local) if at.local else at.url}/" for at in (root, store))
    if one.startswith(other) or other.startswith(one):
        raise UsageError(
            f"--to {options.to}: a root lies beside --root, not in it and not around it: name a new folder"
        )


def _check(root: Store, generation: Generation, options: Namespace, operation: Operation, *, is_new: bool) -> None:
    """Refuses what cannot be made of a root, before anything is written; what goes on has its rows of before.

    Raises:
        UsageError: its scores are no products, it holds nothing, or more rows are wanted than there are.
    """
    if operation == "augment" and generation.trained.metric != "ip":
        raise UsageError(
            f"{root.url} has {generation.trained.metric} distances, and neighbours are weighted with cosines: augment "
            "a root of --metric-type ip"
        )
    if not generation.totals.vectors:
        raise UsageError(f"{root.url} holds no vectors: there is nothing to {operation}")
    if operation == "augment" and not 0 <= options.alpha < float("inf"):
        raise UsageError(f"--alpha {options.alpha:g}: take 0 or more")
    if operation == "condense":
        if options.rows is None:
            raise UsageError("--rows is missing: say how many rows are to stand for all")
        if not is_new:
            return
        if options.by is not None:
            searcher = Searcher(root, generation, trust_uris=options.trust_uris, index=Whole(root, generation))
            searcher.check_column(options.by)
        there = _rows(root, generation, trusted=options.trust_uris)
        if options.rows > there:
            raise UsageError(f"--rows {options.rows} is more than the {there} rows that there are: take fewer")


def _rows(root: Store, generation: Generation, *, trusted: bool) -> int:
    """How many rows are alive and not hidden."""
    shown, all_rows = (
        Searcher(root, generation, trust_uris=trusted, with_hidden=hidden, index=Whole(root, generation)).rows_of(None)
        for hidden in (False, True)
    )
    return generation.totals.vectors - (all_rows.count - shown.count)


def _request(root: Store, generation: Generation, options: Namespace, operation: Operation) -> Request:
    there = generation.request
    places = outside.Outside.of(there).places
    shared = show_pictures_once(generation)
    made = Derivation(operation, generation.generation, generation.checksum, places, names_pictures=shared)
    if operation == "augment":
        made = replace(made, alpha=options.alpha, neighbours=options.neighbours, nprobe=options.nprobe)
    else:
        made = replace(made, rows=options.rows, by=options.by)
    # Ready embeddings are not rounded, which is how they stay what they are.
    encoder = there.encoder if there.has_encoder else replace(there.encoder, precision="full")
    return versioned(
        Request(
            sources=(Source("root", root.url, derivation=made),),
            encoder=encoder,
            index=there.index,
            seed=there.seed if options.seed is None else options.seed,
        )
    )


def _claim(store: Store, published: Generation, request: Request) -> None:
    """Refuses a root that holds something else.

    Raises:
        UsageError: naming in what it differs.
    """
    if published.request != request:
        raise UsageError(
            f"{store.url} already has generation {published.generation} of another request "
            f"({difference(published.request, request)}): name a new root with --to"
        )


def _begun(unfinished: Run, request: Request) -> Request:
    """Returns the request of a run that was begun with another generation of the same root, to go on with that."""
    there, now = unfinished.request, request.derivation
    before = there.derivation
    if before is None or now is None or there.sources[0].pattern != request.sources[0].pattern:
        return request
    again = replace(now, **{name: getattr(before, name) for name in _SAME})
    begun = replace(request, sources=(replace(request.sources[0], derivation=again),))
    if begun != there or begun == request:
        return request
    console.say(
        f"going on with generation {before.generation} of {request.sources[0].pattern}, with which it was begun; "
        f"{now.generation} is published since"
    )
    return there
