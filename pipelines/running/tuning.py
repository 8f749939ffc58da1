"""From a command line to a tuned generation: what `tune` does once its words are read."""

import time
from argparse import Namespace
from dataclasses import replace
from typing import Any, Final

from pipelines.running import neighbours
from pipelines.running.destination import Destination
from pipelines.terminal import console, tune_report
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.options import root_of
from transforms.errors import PixdexError, UsageError
from transforms.evaluation.promise import Promise
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.generations.tuned import Setting, Tuned
from transforms.index import canaries
from transforms.index.adaptive import spread
from transforms.index.adaptive.spread import Spread
from transforms.index.open_trained import open_trained
from transforms.proof import queries, tune
from transforms.proof.request import QuerySet
from transforms.proof.spread import spread_of
from transforms.queries.encode import QueryEncoder
from transforms.queries.root import modality_of
from transforms.runs import beginning
from transforms.search.searcher import Searcher
from transforms.search.slices import Whole
from transforms.storage.store import Store
from transforms.tasks.drift import LEAST_QUERIES
from transforms.upkeep import lease
from transforms.upkeep.again import publish_again

_LEAST: Final = 20
"""Queries of a half: of fewer nothing can be said."""


def tune_root(line: CommandLine) -> int:
    """Chooses, confirms and publishes; returns the exit code of success."""
    options, began = line.options, time.monotonic()
    destination, store = Destination.of(line), root_of(line.options)
    destination.prepare(options.root, ())
    promise = _promise(options)
    generation = open_generation(store)
    if promise is None:
        return _off(store, generation)
    if not generation.totals.vectors:
        raise UsageError(f"{store.url} holds no vectors: there is nothing to tune")
    beginning.check_none_unfinished(store)
    unopened = Searcher(store, generation, trust_uris=options.trust_uris, index=Whole(store, generation))
    halves = _halves(unopened, options)
    sets = [one for half in halves for one in half]
    found = neighbours.found(
        neighbours.request_of(store, generation, sets, options.k), sets, destination, options, "tune"
    )
    if found is None:
        return console.DONE
    # What was tuned before need not be whole.
    searcher = Searcher(store, replace(generation, tuned=None), trust_uris=options.trust_uris)
    sketch: Spread | None = None
    if options.stop != "never":
        console.say("looking at how widely the rows of each list are spread")
        sketch = spread_of(searcher, halves[0][0].asked.modality, options.seed)
        if sketch is None:
            console.say(f"queries cannot stop by themselves among {generation.trained.metric} distances")
    settings = []
    for place, (tuning, confirming) in enumerate(halves):
        console.say(f"trying settings on {len(tuning.vectors)} queries ({tuning.asked.name})")
        asked = tune.Asked(tuning, found[2 * place], confirming, found[2 * place + 1])
        settings.append(tune.choose(searcher, asked, sketch, options.k, promise, options.stop))
    tuned = _published(store, generation, promise, options.k, tuple(settings), sketch)
    console.show(tune_report.text_of(promise, options.k, tuned.tuned))
    console.show_json(tune_report.summary(tuned) | {"seconds": round(time.monotonic() - began, 3)})
    return console.DONE


def _promise(options: Namespace) -> Promise | None:
    """What is promised; None: nothing is to be any more."""
    asked = [options.target_recall, options.tail]
    if options.off == any(one is not None for one in asked):
        raise UsageError("say what searches are to find: --target-recall .95, or --tail .9@95%, or both; or --off")
    return None if options.off else Promise(options.target_recall, options.tail)


def _off(store: Store, generation: Generation) -> int:
    if generation.tuned is None:
        console.say(f"{store.url}: searches go as they were trained: nothing to do")
    else:
        with lease.held(store, "tune"):
            beginning.check_none_unfinished(store)
            generation = publish_again(store, replace(open_generation(store), tuned=None))
        console.say(f"{store.url}: generation {generation.generation} is searched as it was trained")
    console.show_json(tune_report.summary(generation))
    return console.DONE


def _halves(searcher: Searcher, options: Namespace) -> list[tuple[QuerySet, QuerySet]]:
    """Queries of each kind: some to tune on, others to confirm with."""
    file = neighbours.query_file(options)
    if file is None:
        every = [queries.of_root(searcher, options.num_queries, options.seed, tuning=half) for half in (True, False)]
        halves = list(zip(*every, strict=True))
        where = "the root holds too few rows"
    else:
        encoder = QueryEncoder(searcher.generation.request, device=options.device, named=options.encoder)
        modality = modality_of(searcher, None, is_vector=file.are_vectors)
        one = neighbours.named_queries(searcher, encoder, file, modality).queries
        halves = [(_every_second(one, 0), _every_second(one, 1))]
        where = f"--queries {options.queries} holds too few"
    fewest = min(len(half.vectors) for pair in halves for half in pair)
    if fewest < _LEAST:
        raise UsageError(
            f"{where}: {fewest} queries are a half of them, and {_LEAST} the least; give more with --queries FILE"
        )
    return halves


def _every_second(one: QuerySet, first: int) -> QuerySet:
    return QuerySet(one.asked, one.vectors[first::2], one.own[first::2])


def _published(
    store: Store, before: Generation, promise: Promise, k: int, settings: tuple[Setting, ...], sketch: Spread | None
) -> Generation:
    """Publishes the settings with what was measured, unless the root has changed meanwhile."""
    with lease.held(store, "tune"):
        beginning.check_none_unfinished(store)
        current = open_generation(store)
        if _searched(current) != _searched(before):
            raise PixdexError(
                f"{store.url}: generation {current.generation} was published meanwhile: run the same command again"
            )
        file = None
        if sketch is not None and any(setting.margin is not None for setting in settings):
            file = spread.save(store, current.trained.fingerprint, sketch)
        ended = {one.queries for one in before.tuned.settings} if before.tuned is not None else set()
        for kind in sorted(ended - {one.queries for one in settings}):
            console.say(f"{kind} queries were tuned before, and are not any more: tune them together")
        tuned = Tuned(k, promise.recall, promise.tail, settings, file, _watched(store, current))
        return publish_again(store, replace(current, tuned=tuned))


def _searched(generation: Generation) -> tuple[object, ...]:
    """What a tuned search is of; items may be hidden meanwhile."""
    return generation.trained, generation.index, replace(generation.tables, hidden=None)


def _watched(store: Store, generation: Generation) -> float | None:
    """The recall of the canaries, which later runs compare theirs with."""
    if generation.canaries is None:
        return None
    watched: Any = canaries.load(store, generation.canaries)
    if len(canaries.countable(watched)) < LEAST_QUERIES:
        return None
    recall = canaries.recall(watched, open_trained(store, generation.trained))
    return None if recall is None else round(recall, 4)
