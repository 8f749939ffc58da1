"""Exact neighbours of queries, as a job of a launcher: what `evaluate` and `tune` compare searches with."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Final

from pipelines.running.batch import queries_of
from pipelines.running.destination import Destination
from pipelines.running.request import default_threads
from pipelines.terminal import console
from pipelines.terminal.progress.shown import shown_parts, way_of
from pipelines.terminal.queries import path_of
from transforms.batch.request import Queries, seal_of
from transforms.errors import PixdexError, UsageError
from transforms.generations.manifest import Generation
from transforms.proof import exact, queries
from transforms.proof.exact import Neighbours
from transforms.proof.queries import Named
from transforms.proof.request import Proof, ProofRequest, QuerySet, content_of
from transforms.queries.encode import QueryEncoder
from transforms.records import Modality
from transforms.search.searcher import Searcher
from transforms.storage import uris
from transforms.storage.cache_folder import cache_folder
from transforms.storage.store import Store

_NEAR: Final = 100
"""Exact neighbours that are kept of each query, at least: equal ones count, too."""

_DIGITS: Final = 16


def query_file(options: Namespace) -> Queries | None:
    """Returns the file of queries that the options name; None: they name none.

    Raises:
        UsageError: its name is empty, or it is of no kind that is known.
    """
    if options.queries is not None and not options.queries.strip():
        raise UsageError("--queries is empty: name a file, or leave it out")
    return None if options.queries is None else queries_of(options)


def named_queries(searcher: Searcher, encoder: QueryEncoder, file: Queries, modality: Modality | None) -> Named:
    """Returns the queries of a file, and says how many of them have no vector.

    Raises:
        UsageError: as `proof.queries.of_file`.
    """
    named = queries.of_file(searcher, encoder, file, modality)
    if named.left_out:
        console.say(f"{named.left_out} queries of {file.uri.removeprefix('file://')} have no vector, and are left out")
    return named


def request_of(store: Store, generation: Generation, sets: Sequence[QuerySet], k: int) -> ProofRequest:
    """Returns the request of the neighbours of some queries, of which the `k` nearest are looked at."""
    asked, content = tuple(one.asked for one in sets), content_of(tuple(sets))
    near, number = max(_NEAR, 2 * k), generation.generation
    return ProofRequest(store.url, number, seal_of(store, number), near, asked, content)


def found(
    request: ProofRequest, sets: Sequence[QuerySet], destination: Destination, options: Namespace, command: str
) -> list[Neighbours] | None:
    """Finds the exact neighbours; None: the job was handed over, and nobody waits for it."""
    way, work = way_of(options), _work(request, options, is_here=destination.runner is None)
    threads = None if options.workers in (None, 1) else default_threads(options.workers)
    proof = Proof(work, options.trust_uris, threads)
    try:
        proof.begin(request, tuple(sets))
    except OSError as error:
        raise UsageError(
            f"--work {work.url} cannot be written ({error.strerror or error}): name another folder"
        ) from error
    there = exact.neighbours(proof)
    if there is not None:
        return there
    count = exact.tasks(proof)
    with shown_parts("neighbours", lambda: (exact.done(proof), count), way):
        destination.get_ready()
        from transforms.stages.proof import FindNeighbours  # noqa: PLC0415 - imports Beam, and no mistake waits for it

        outcome = destination.run(lambda pipeline: pipeline | "FindNeighbours" >> FindNeighbours(proof))
    if outcome != "done":
        console.show_json({"work": work.url, outcome: command})
        return None
    if (there := exact.neighbours(proof)) is None:
        raise PixdexError(f"{work.url}: the job ended without its results; run the same command again")
    return there


def _work(request: ProofRequest, options: Namespace, *, is_here: bool) -> Store:
    """The folder of a request: everything that it has found, and nothing of others."""
    if options.work is not None:
        if not options.work.strip():
            raise UsageError("--work is empty: name a folder, or leave it out")
        named = options.work if "://" in options.work else str(path_of("--work", options.work))
        base = uris.absolute(named).rstrip("/")
    elif is_here or options.workers is not None:
        base = uris.absolute(str(cache_folder() / "proofs"))
    else:
        raise UsageError("--work is missing: workers of a runner need a folder that each of them reaches")
    if f"{base}/".startswith(f"{request.root}/"):
        raise UsageError(f"--work {options.work} lies in the root, where only what is indexed stays: name another")
    try:
        return Store.at(f"{base}/{request.digest[:_DIGITS]}")
    except UsageError as error:
        raise UsageError(str(error).replace("--root", "--work")) from error
