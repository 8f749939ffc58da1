"""From a command line to a file of results: what `batch-search` does once its words are read."""

import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Final

from pipelines.running.destination import Destination
from pipelines.running.request import default_threads
from pipelines.terminal import console, queries
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.options import root_of
from pipelines.terminal.progress.shown import shown_parts, way_of
from transforms.batch.plan import looked_at, version_of
from transforms.batch.publish import SCHEMA, Summary, summary_of
from transforms.batch.request import REQUEST, Batch, BatchRequest, Kind, Queries, begun, output_of, seal_of
from transforms.encoders import trusted
from transforms.errors import PixdexError, UsageError
from transforms.generations import published
from transforms.generations.tuned import QueryKind
from transforms.queries import null_results
from transforms.queries.root import modality_of
from transforms.search.rules import AUTO
from transforms.search.searcher import Searcher
from transforms.search.slices import Whole, can_be_sliced
from transforms.search.where import Condition
from transforms.sources import packed
from transforms.sources.ready.vectors import DEFAULT_COLUMN
from transforms.storage import uris
from transforms.storage.store import Store

_KINDS: Final[dict[str, Kind]] = {
    ".npy": "npy",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "txt",
}


def answer(line: CommandLine) -> int:
    """Checks, answers what is not answered yet, and reports; returns the exit code of success."""
    options = line.options
    destination = Destination.of(line)
    store, output = root_of(options), _output(options)
    destination.prepare(options.root, ())
    if output.startswith((f"{store.url}/", "memory://")):
        raise UsageError(f"--output {options.output}: results lie beside a root, where they stay: name another place")
    way = way_of(options)
    request, batch = _begun(store, output, options)
    began, there = time.monotonic(), summary_of(batch.output)
    if there is not None:
        if there.request != request.digest:
            raise UsageError(
                f"{options.output} is there, of another command or another generation than {request.generation}: "
                "choose another --output, or remove it"
            )
        console.say(f"{options.output} holds the results of this very command: nothing to do")
        _clean(batch)
        return _report(request, there, options, 0.0)
    with shown_parts("answer", partial(_parts, batch), way):
        destination.get_ready()
        from transforms.stages.batch import AnswerQueries  # noqa: PLC0415 - imports Beam, and no mistake waits for it

        outcome = destination.run(lambda pipeline: pipeline | "AnswerQueries" >> AnswerQueries(batch))
    if outcome != "done":
        console.show_json({"output": options.output, outcome: "batch-search"})
        return console.DONE
    made = summary_of(batch.output)
    if made is None or made.request != request.digest:
        raise PixdexError(f"{options.output}: the job ended without its results; run the same command again")
    _clean(batch)
    return _report(request, made, options, time.monotonic() - began)


def _clean(batch: Batch) -> None:
    """Removes what is needed no more."""
    try:
        batch.work.remove_folder("")
    except OSError as error:
        console.say(f"{batch.work.url} could not be removed ({error.strerror or error}): remove it")


def _output(options: Namespace) -> str:
    """The URL of the output."""
    if not options.output or not options.output.strip():
        raise UsageError("--output is missing: name the parquet file that the results go to")
    named = options.output if "://" in options.output else str(queries.path_of("--output", options.output))
    url = uris.absolute(named)
    if options.output.endswith("/") or not url.endswith(".parquet"):
        raise UsageError(f"--output {options.output}: results are a parquet file, give it a name that ends in .parquet")
    try:
        output_of(url)
    except UsageError as error:
        raise UsageError(str(error).replace("--root", "--output")) from error
    if url.startswith("file://") and Path(url.removeprefix("file://")).is_dir():
        raise UsageError(f"--output {options.output} is a folder: name a file in it")
    return url


def _begun(store: Store, output: str, options: Namespace) -> tuple[BatchRequest, Batch]:
    """What is asked, of the generation that the job was begun with, and the job."""
    now = _request(store, options)
    work = Store.at(Batch.folder_of(output, now))
    there = summary_of(output_of(output))
    try:
        request = begun(work, now) if there is None else work.find_record(REQUEST, BatchRequest) or now
    except OSError as error:
        raise UsageError(
            f"--output {options.output} cannot be written ({error.strerror or error}): name another"
        ) from error
    begun_with = request.generation
    if request != now and (begun_with not in published.numbers(store) or seal_of(store, begun_with) != request.seal):
        raise UsageError(
            f"the job was begun with another generation {begun_with} of {store.url}, which is gone: remove {work.url}"
        )
    if request != now and there is None:
        console.say(
            f"going on with generation {begun_with}, with which it was begun; {now.generation} is published since"
        )
    threads = None if options.workers in (None, 1) else default_threads(options.workers)
    return request, Batch(
        work,
        request.digest,
        options.device,
        options.encoder,
        options.trust_uris,
        threads,
        _slice_bytes(request, options),
    )


def _slice_bytes(request: BatchRequest, options: Namespace) -> int | None:
    """Of how many bytes slices of the index are; None: it is not scanned in slices."""
    store = Store.at(request.root)
    # A query that is expanded is searched for twice.
    if request.wanted.expand or not can_be_sliced(
        published.open_generation(store, request.generation), options.slice_bytes
    ):
        return None
    return int(options.slice_bytes)


def _request(store: Store, options: Namespace) -> BatchRequest:
    """What is asked of the current generation.

    Raises:
        UsageError: it cannot be asked.
    """
    asked = queries_of(options)
    generation = published.open_generation(store)
    searcher = Searcher(store, generation, trust_uris=options.trust_uris, index=Whole(store, generation))
    looked_at(asked, generation.trained.dim)
    minus = bool(getattr(options, "not"))
    if not generation.request.has_encoder and (minus or not asked.are_vectors):
        flag = "--not is a text, and this" if asked.are_vectors else "this"
        raise UsageError(
            f"{flag} index holds ready embeddings and knows no encoder: give vectors, --queries FILE.npy or .parquet"
        )
    if minus or not asked.are_vectors:
        trusted.check(generation.request.encoder.spec, options.encoder)
    modality = modality_of(searcher, options.modality, is_vector=asked.are_vectors)
    kind: QueryKind | None = None
    if generation.tuned is not None and not asked.are_vectors:
        kind = "image" if asked.are_pictures else "text"
    wanted = queries.wanted_of(options, modality, kind)
    if wanted.where is not None:
        Condition(wanted.where)
    if wanted.expand and wanted.rules.min_score == AUTO:
        raise UsageError("--expand adds what is found to a query, so that --min-score auto says nothing: give a number")
    if wanted.rules.min_score == AUTO:
        null_results.check(searcher, asked.modality, modality)
    if (wanted.minus or wanted.expand) and not searcher.has_cosines:
        raise UsageError("--not and --expand add directions, and scores of this root are no cosines: leave them out")
    names = dict.fromkeys(name.strip() for name in (options.columns or "").split(",") if name.strip())
    for name in names:
        if name in ("query", "rank", "score"):
            raise UsageError(f"--columns {name}: results have a column of that name: leave it out")
        if name not in SCHEMA.names and generation.totals.vectors:
            searcher.check_column(name)
    columns = tuple(name for name in names if name not in SCHEMA.names)
    seal = seal_of(store, generation.generation)
    return BatchRequest(store.url, generation.generation, seal, asked, wanted, columns)


def queries_of(options: Namespace) -> Queries:
    """Returns the file of queries that the options name.

    Raises:
        UsageError: it cannot be read, or its column is not named.
    """
    if not options.queries or not options.queries.strip():
        raise UsageError("--queries is missing: name a file of vectors (.npy, .parquet), .csv, or texts (.txt)")
    uri = uris.absolute(options.queries)
    name = packed.without_ending(uri.rpartition("/")[2]).lower()
    kind = _KINDS.get(name[name.rfind(".") :]) if "." in name else None
    if kind is None or (kind in ("npy", "parquet") and not uri.lower().endswith(kind)):
        raise UsageError(
            f"--queries {options.queries}: name a file that ends in {', '.join(_KINDS)}, the last three perhaps "
            "compressed (.gz, .zst)"
        )
    version = version_of(uri)
    columns = {"--text-column": options.text_column, "--image-column": options.image_column}
    named = [flag for flag, column in columns.items() if column]
    if kind == "csv":
        if len(named) != 1:
            raise UsageError(f"--queries {options.queries}: name its column with --text-column or --image-column")
        return Queries(uri, version, kind, columns[named[0]], are_pictures=named[0] == "--image-column")
    if named or (options.vector_column and kind != "parquet"):
        flag = named[0] if named else "--vector-column"
        raise UsageError(f"{flag} names a column, and {options.queries} has none: leave it out")
    return Queries(uri, version, kind, (options.vector_column or DEFAULT_COLUMN) if kind == "parquet" else None)


def _parts(batch: Batch) -> tuple[int, int | None]:
    """How many parts are answered, and how many there are, if that is known."""
    try:
        plan = batch.planned()
    except PixdexError:  # the job says it better
        return 0, None
    return batch.done(), None if plan is None else len(plan.parts)


def _report(request: BatchRequest, made: Summary, options: Namespace, seconds: float) -> int:
    if made.unanswered:
        console.say(f"{made.unanswered} of {made.queries} queries have no answer: {made.why}")
    console.show_json(
        {
            "queries": made.queries,
            "results": made.results,
            "output": options.output,
            "seconds": round(seconds, 3),
            "unanswered": made.unanswered,
            "generation": request.generation,
        }
    )
    return console.DONE
