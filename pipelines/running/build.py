"""From a command line to a generation: what `build` and the commands for its single stages share."""

import contextlib
from argparse import Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.running.destination import Destination
from pipelines.running.launch import Launch, begin, unfinished_of_another
from pipelines.running.request import (
    DEFAULT_ENCODER,
    check,
    default_threads,
    difference,
    request_of,
    request_of_vectors,
    sources_of,
)
from pipelines.terminal import console, run_report
from pipelines.terminal.command_line import CommandLine
from transforms.errors import PixdexError, UsageError
from transforms.generations import published as generations
from transforms.generations.manifest import Generation
from transforms.index.index_key import IndexKey
from transforms.records import Request, Source
from transforms.runs import beginning
from transforms.runs.run import Run, Stage
from transforms.sources.ready import vectors
from transforms.storage.store import Store
from transforms.tasks.embed import reject_ratio

if TYPE_CHECKING:
    from transforms.encoders import Encoder


@dataclass(frozen=True)
class _Asked:
    """What is asked of a root, and what the root has.

    Attributes:
        request: made of the options.
        encoder: loaded; None of ready embeddings, where none is named.
        unfinished: the run that was begun and is not done, if any.
        published: the current generation, if any.
    """

    request: Request
    encoder: "Encoder | None"
    unfinished: Run | None
    published: Generation | None


def build(line: CommandLine, last: Stage) -> int:
    """Checks, runs every stage up to `last` that is not done, and reports.

    Args:
        line: the command.
        last: the stage to end with.

    Returns:
        The exit code of success; everything else is an error that says what to do.
    """
    options = line.options
    destination = Destination.of(line)
    sources = sources_of(options)
    destination.prepare(options.root, sources)
    launch = Launch.of(options, destination)
    asked = _asked(launch, options, sources)
    launch.store.sweep_scratch()
    if asked.unfinished is not None and asked.published is not None and options.abandon_plan:
        beginning.abandon(asked.unfinished)
    if asked.published is not None and _claims(launch.store, asked.published, asked.request):
        return nothing_to_do(launch, asked.published)
    run = begin(launch.store, asked.request, asked.unfinished, launch.limits, abandon=options.abandon_plan)
    if not launch.quiet:
        console.say(_what_is_built(asked, options, in_process=destination.runner is None))
    request, lending = asked.request, _lending(asked, destination)
    del asked  # and with it the encoder, where other processes embed
    with lending:
        outcome, seconds = launch.carry_out(run, last)
    if outcome != "done":
        return console.DONE
    if last != "publish":
        console.show_json({"generation": run.generation, "done": last, "seconds": seconds})
        return console.DONE
    return report(launch, run, request, seconds)


def _lending(asked: _Asked, destination: Destination) -> contextlib.AbstractContextManager[None]:
    """Lends the encoder to the tasks of this process, as long as a run takes, where there is no other."""
    if asked.encoder is None or asked.request.is_ready or not destination.is_one_process:
        return contextlib.nullcontext()
    from transforms.tasks.embed import open_encoder  # noqa: PLC0415 - ready embeddings need no Pillow

    return open_encoder.lent(asked.encoder, asked.request.encoder)


def _asked(launch: Launch, options: Namespace, sources: tuple[Source, ...]) -> _Asked:
    """Makes the request, of an encoder that is loaded here, or of the dimension of ready embeddings.

    Raises:
        UsageError: sources, encoder or index cannot work.
    """
    store = launch.store
    planned = not options.abandon_plan and _goes_on(launch, sources)
    if not planned:
        check(sources)
    in_process = launch.destination.runner is None
    dim = _dimension(store, sources, planned=planned) if options.vectors else 0
    encoder = None
    if options.encoder or not options.vectors:
        _check_spec(store, options)
        encoder = _load_encoder(options, in_process=in_process)
        _check_dimension(options, encoder.dim, dim)
    # In this order: a run that another launcher finishes at this moment is seen as the one or as the other.
    unfinished, published = beginning.unfinished(store), generations.current(store)
    threads = options.encoder_threads or _threads(unfinished, published, options.workers or 1)
    known = (None if options.abandon_plan else unfinished) or published
    if encoder is not None and known is not None:  # a root of before goes on with its preprocessing
        from transforms.tasks.embed.open_encoder import as_recorded  # noqa: PLC0415 - ready embeddings need no Pillow

        encoder = as_recorded(encoder, known.request.encoder.fingerprint, options.image_fit)
    if options.refine_store is None and known is not None:  # a root of before there was a choice stores none
        options.refine_store = known.request.index.refine
    request = (
        request_of(options, sources, encoder, threads)
        if encoder
        else request_of_vectors(options, sources, dim, threads)
    )
    return _Asked(request, encoder, unfinished, published)


def nothing_to_do(launch: Launch, published: Generation) -> int:
    """Says that the root holds what is asked for; returns the exit code of success."""
    store, destination = launch.store, launch.destination
    if launch.metrics is not None:
        launch.metrics.finish_without(store)
    console.say(f"{store.url} already has generation {published.generation} of this request: nothing to do")
    destination.end_template()
    console.show_json(run_report.summary(store, published, {}) | {"embedded": 0})
    return console.DONE


def _what_is_built(asked: _Asked, options: Namespace, *, in_process: bool) -> str:
    dim = asked.request.encoder.dim
    if asked.request.is_ready:
        made_by = f", of encoder {options.encoder}" if asked.encoder is not None else ""
        return f"ready embeddings, which workers will count, {dim} dimensions{made_by}"
    assert asked.encoder is not None
    where = asked.encoder.device if in_process else f"the workers' {options.device} device"
    return f"encoder {options.encoder or DEFAULT_ENCODER} on {where}, {dim} dimensions"


def report(launch: Launch, run: Run, request: Request, seconds: dict[str, float]) -> int:
    """Says what a run has published; returns the exit code of success.

    Raises:
        PixdexError: it has published nothing.
    """
    store = launch.store
    generation = generations.current(store)
    if generation is None:
        raise PixdexError(f"{store.url}: the job ended without a generation; run the same command again")
    _say_other_key(request, generation)
    reasons, shards = reject_ratio.reasons_of_run(run), run.shards()
    if not launch.quiet:
        console.say(run_report.totals_text(store, generation, reasons))
        for line in (
            *run_report.embedding_text(shards, generation),
            *run_report.beside_text(store, generation.tables.containers),
        ):
            console.say(line)
        for line in run_report.report_text(store, generation):
            console.say(line)
    console.show_json(run_report.summary(store, generation, seconds, reasons, shards))
    return console.DONE


def _load_encoder(options: Namespace, *, in_process: bool) -> "Encoder":
    from transforms import encoders  # noqa: PLC0415 - ready embeddings need no Pillow

    # A launcher of workers elsewhere need not have their device.
    return encoders.load(options.encoder or DEFAULT_ENCODER, device=options.device if in_process else "cpu")


def _check_spec(store: Store, options: Namespace) -> None:
    """Refuses an encoder of another name than that of the root before it is loaded, which takes seconds.

    Raises:
        UsageError: the root has another one, and holds a generation, or a planned run that is not given up.
    """
    from transforms import encoders  # noqa: PLC0415 - ready embeddings need no Pillow

    unfinished, published = beginning.unfinished(store), generations.current(store)
    known = published or (unfinished if unfinished is not None and unfinished.is_planned else None)
    if known is None or (unfinished is not None and options.abandon_plan) or known.request.is_ready or options.vectors:
        return
    there, asked = known.request.encoder.spec, encoders.absolute_spec(options.encoder or DEFAULT_ENCODER)
    if there == asked:
        return
    told = f"encoder {there}, not {asked}"
    raise _of_another(store, published, told) if published is not None else unfinished_of_another(store, told)


def _check_dimension(options: Namespace, of_encoder: int, of_vectors: int) -> None:
    """Refuses an encoder that did not make the ready embeddings, as far as that is seen."""
    if of_vectors not in (0, of_encoder):
        raise UsageError(
            f"--encoder {options.encoder} makes vectors of {of_encoder} components, those of --vectors have "
            f"{of_vectors}: name the encoder that they were made with, or none"
        )


def _dimension(store: Store, sources: tuple[Source, ...], *, planned: bool) -> int:
    """The dimension of ready embeddings.

    Of sources that are planned or published it is known: what happened to their files since is seen where they are
    read, or does not matter any more. Of others the first file with vectors says it, and workers look at the rest.
    """
    for known in (beginning.unfinished(store) if planned else None, generations.current(store)):
        if known is not None and known.request.sources == sources:
            return known.request.encoder.dim
    return vectors.dimension(sources)


def _threads(unfinished: Run | None, published: Generation | None, workers: int) -> int:
    """The threads of what the root already has, so that the same command is the same request on any machine."""
    known = unfinished or published
    return known.request.encoder.threads if known else default_threads(workers)


def _say_other_key(request: Request, generation: Generation) -> None:
    asked, key = request.index.key, generation.trained.key
    if asked != "auto" and IndexKey.parse(asked).nlist not in (0, IndexKey.parse(key).nlist):
        console.say(f"--index-key {asked} became {key}: too few vectors for more lists")


def _claims(store: Store, published: Generation, request: Request) -> bool:
    """Tells whether the root holds this very request.

    Raises:
        UsageError: it holds another one.
    """
    if published.request == request:
        return True
    raise _of_another(store, published, difference(published.request, request))


def _of_another(store: Store, published: Generation, told: str) -> UsageError:
    return UsageError(
        f"{store.url} already has generation {published.generation} of another request ({told}): use 'pixdex reindex' "
        "for new items, or a new root"
    )


def _goes_on(launch: Launch, sources: tuple[Source, ...]) -> bool:
    """Tells whether these sources are planned already: what changed in them since then waits for the next run."""
    unfinished = beginning.unfinished(launch.store)
    if unfinished is None or not unfinished.is_planned or unfinished.request.sources != sources:
        return False
    return not reject_ratio.is_refused(unfinished, launch.limits.max_reject_ratio)
