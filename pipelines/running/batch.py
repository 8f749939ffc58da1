"""From a command line to a file of results: what `batch-search` does once its words are read."""

import contextlib
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Final

from pipelines.running import runners
from pipelines.running.launch import Destination
from pipelines.running.request import default_threads
from pipelines.terminal import console, queries
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.options import root_of
from pipelines.terminal.progress import counted
from transforms.batch.plan import looked_at, version_of
from transforms.batch.publish import Summary, summary_of
from transforms.batch.request import Batch, BatchRequest, Kind, Queries
from transforms.encoders import trusted
from transforms.errors import PixdexError, UsageError
from transforms.queries.root import modality_of
from transforms.search.searcher import Searcher
from transforms.search.where import Condition
from transforms.sources.vectors import DEFAULT_COLUMN
from transforms.stages.batch import AnswerQueries
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
    store, batch = root_of(options), _batch(options)
    destination.prepare(options.root, ())
    request = _request(store, batch, options)
    began, there = time.monotonic(), summary_of(batch.output)
    if there is not None:
        if there.request != request.digest:
            raise UsageError(f"{options.output} is there, and of something else: choose another --output, or remove it")
        console.say(f"{options.output} holds the results of this very command: nothing to do")
        batch.work.remove_folder("")
        return _report(request, there, options, 0.0)
    batch.begin(request)
    with _progress(batch, wanted=not options.no_progress):
        outcome = runners.run_to_end(
            destination.runner, lambda pipeline: pipeline | "AnswerQueries" >> AnswerQueries(batch), destination.options
        )
    if outcome != "done":
        console.show_json({"output": options.output, outcome: "batch-search"})
        return console.DONE
    made = summary_of(batch.output)
    if made is None or made.request != request.digest:
        raise PixdexError(f"{options.output}: the job ended without its results; run the same command again")
    batch.work.remove_folder("")
    return _report(request, made, options, time.monotonic() - began)


def _batch(options: Namespace) -> Batch:
    if not options.output:
        raise UsageError("--output is missing: name the parquet file that the results go to")
    output = uris.absolute(options.output)
    if output.endswith("/") or not output.endswith(".parquet"):
        raise UsageError(f"--output {options.output}: results are a parquet file, give it a name that ends in .parquet")
    try:
        work = Store.at(Batch.folder_of(output))
    except UsageError as error:
        raise UsageError(str(error).replace("--root", "--output")) from error
    threads = None if options.workers in (None, 1) else default_threads(options.workers)
    return Batch(work, options.device, options.encoder, options.trust_uris, threads)


def _request(store: Store, batch: Batch, options: Namespace) -> BatchRequest:
    """What is asked; the generation is that of a job that was begun, where it is the same otherwise."""
    begun = batch.begun()
    asked = _queries(options)
    number = begun.generation if begun is not None and begun.root == store.url else None
    searcher = Searcher.open(store, number, trust_uris=options.trust_uris)
    generation = searcher.generation
    looked_at(asked, generation.trained.dim)
    if not asked.are_vectors:
        trusted.check(generation.request.encoder.spec, options.encoder)
        if generation.request.is_ready:
            raise UsageError(
                "this index holds ready embeddings and knows no encoder: give vectors, --queries FILE.npy or .parquet"
            )
    modality = modality_of(searcher, options.modality, is_vector=asked.are_vectors)
    wanted = queries.wanted_of(options, modality)
    if wanted.where is not None:
        Condition(wanted.where)
    names = tuple(name.strip() for name in (options.columns or "").split(",") if name.strip())
    request = BatchRequest(store.url, generation.generation, asked, wanted, names)
    if begun is not None and begun != request and not batch.done():
        batch.work.remove_folder("")  # it has done nothing, maybe since it could not
        return _request(store, batch, options)
    if begun is not None and begun != request:
        raise UsageError(
            f"{batch.work.url} is of another command that was stopped: run that one again, choose another --output, or "
            "remove the folder"
        )
    return request


def _queries(options: Namespace) -> Queries:
    if not options.queries or not options.queries.strip():
        raise UsageError("--queries is missing: name a file of vectors (.npy, .parquet), .csv, or texts (.txt)")
    uri = uris.absolute(options.queries)
    ending = uri[uri.rfind(".") :].lower() if "." in uri.rpartition("/")[2] else ""
    kind = _KINDS.get(ending)
    if kind is None:
        raise UsageError(f"--queries {options.queries}: name a file that ends in {', '.join(_KINDS)}")
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


@contextlib.contextmanager
def _progress(batch: Batch, *, wanted: bool) -> Iterator[None]:
    stop = threading.Event()

    def look() -> tuple[int, int | None]:
        plan = batch.planned()
        return batch.done(), None if plan is None else len(plan.parts)

    watcher = threading.Thread(target=counted, args=("answer", "parts", look, stop), name="progress", daemon=True)
    if wanted:
        watcher.start()
    try:
        yield
    finally:
        stop.set()
        if wanted:
            watcher.join()


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
