"""Says what a build will be, before there is any: index, parts, memory, bytes, hours, and the bottleneck.

A billion vectors of 512 components, on 64 workers:

    pixdex plan --num-vectors 1e9 --dim 512 --workers 64 --cores 8 --worker-memory 32G

Pictures that are to be embedded, of 200 KB each, where a worker embeds 300 a second:

    pixdex plan --num-vectors 50M --dim 512 --item-bytes 200K --items-per-second 300 --workers 16 --cores 8

An index that is to lie in an object store, which has segments in the place of one file:

    pixdex plan --num-vectors 1e9 --dim 512 --workers 64 --cores 8 --root s3://bucket/photos

The vectors, dimension and index of what is in a root:

    pixdex plan --root ./photos --workers 4

Hours rest on rates of this machine, once they are measured (a minute; kept in ~/.cache/pixdex/rates.json):

    pixdex plan --calibrate

Every figure comes with the formula that makes it; below them stand the rates. The last line is one JSON object.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipelines.terminal import command_line, console, flags, plan_report, process, quantities
from pipelines.terminal.flags import Flag, Group, switch
from pipelines.terminal.plan_report import Watched
from pipelines.terminal.run_report import kinds_text
from transforms.errors import PixdexError, UsageError
from transforms.forecast import memory, rates
from transforms.forecast.hours import forecast
from transforms.forecast.workload import Machines, Workload
from transforms.generations import published as generations
from transforms.generations import tables
from transforms.index.choose import check_key, choose, index_bytes
from transforms.markers import TrainedIndex
from transforms.records import FileReference, IndexSettings, Refine, Request
from transforms.rejects import normalised_message
from transforms.runs import beginning
from transforms.storage.store import Store

MOST_VECTORS: Final = 10**15
MOST_DIMENSIONS: Final = 1 << 16
MOST_WORKERS: Final = 10**6
MOST_CORES: Final = 4096

_ITEM_BYTES: Final = "100K"
_BANDWIDTH: Final = "1G"
_DOUBLINGS: Final = 40
_CACHE_SHARE: Final = 0.75
"""Of a machine's memory, what may hold files that were read."""


OPTIONS: Final = (
    Group(
        "PlanOptions",
        "What is built, and with what",
        (
            Flag("--num-vectors", "N", "vectors, such as 1000000, 1e9 or 250M"),
            Flag("--dim", "D", "components of a vector"),
            flags.ROOT,
            flags.INDEX_KEY,
            flags.METRIC_TYPE,
            flags.MAX_INDEX_MEMORY,
            flags.CODE_SIZE,
            replace(
                flags.REFINE_STORE,
                help="vectors stored beside the index for exact scores (default: of pictures f16, of ready embeddings "
                "none, for .npy files are read where they lie)",
            ),
            Flag("--workers", "W", "machines that work (default 1)", default="1"),
            Flag("--cores", "C", "cores of each (default: of this machine)"),
            flags.WORKER_MEMORY,
            Flag(
                "--bandwidth",
                "SIZE",
                "bytes a second between a worker and the storage (default 1G; no limit for one worker and a folder)",
            ),
            Flag(
                "--item-bytes", "SIZE", "pictures are embedded, of this mean size (default: ready embeddings, float16)"
            ),
            Flag(
                "--items-per-second",
                "RATE",
                "pictures that one worker embeds a second; without it they are not counted",
            ),
            switch("--object-store", "the root lies in an object store, as one given with --root s3://… does"),
            switch("--no-normalize", "vectors keep their length"),
            switch("--calibrate", "measure this machine for a minute, and keep the rates for later plans"),
            switch("--json", "print only the JSON object"),
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: plan(arguments))


def plan(argv: Sequence[str]) -> int:
    """Parses, computes and says."""
    options = command_line.parse("plan", __doc__, argv, OPTIONS)
    if options.calibrate:
        from pipelines.running.calibration import calibrate  # noqa: PLC0415 - it imports Beam, which takes seconds

        console.show_json(calibrate().values())
        return console.DONE
    load, notes, recall = _load(options)
    cores = quantities.count("--cores", options.cores, MOST_CORES) if options.cores else os.cpu_count() or 1
    workers = quantities.count("--workers", options.workers, MOST_WORKERS)
    bandwidth = options.bandwidth or (_BANDWIDTH if workers > 1 or load.object_store else None)
    cache = None if bandwidth else round(_CACHE_SHARE * memory.machine_memory())
    machines = Machines(workers, cores, quantities.size("--bandwidth", bandwidth) if bandwidth else None, cache)
    if options.worker_memory:
        memory.check_worker_memory(load, options.worker_memory, machines.at_a_time)
    embedded = quantities.rate("--items-per-second", options.items_per_second) if options.items_per_second else None
    expected = forecast(load, machines, rates.load() or rates.DEFAULT, embedded)
    if not options.json:
        console.show(plan_report.text_of(expected, notes, recall) + "\n")
    console.show_json(plan_report.as_json(expected, notes, recall))
    return console.DONE


def _load(options: Namespace) -> tuple[Workload, list[str], Watched | None]:
    """Returns what is to be built, what should be said about it, and the recall of that index where it is trained."""
    rows = quantities.count("--num-vectors", options.num_vectors, MOST_VECTORS) if options.num_vectors else 0
    dim = quantities.count("--dim", options.dim, MOST_DIMENSIONS) if options.dim else 0
    store = Store.at(options.root) if options.root else None
    content = _content_of(store, needed=not (rows and dim)) if store else None
    if content is not None:
        rows, dim = rows or content.rows, dim or content.request.encoder.dim
    if not rows or not dim:
        raise UsageError("name what to plan: --num-vectors N --dim D, or --root R")
    settings = _settings(options, content)
    check_key(settings, dim)
    notes: list[str] = []
    if settings.key == "auto" and options.max_index_memory is None:
        settings, notes = _with_room(settings, rows, dim)
    if content is not None and content.left_out:
        notes.append(f"left out of the sources: {kinds_text(content.left_out)}")
    key = choose(settings, rows, dim, warn=False)
    pictures = options.item_bytes or options.items_per_second
    if content is not None and not pictures:
        pictures = not content.request.is_ready
    item_bytes = quantities.size("--item-bytes", options.item_bytes or _ITEM_BYTES) if pictures else None
    normalized = content.request.encoder.normalize if content is not None else not options.no_normalize
    remote = options.object_store or (store is not None and store.local is None)
    refine = options.refine_store or (content.refine if content is not None else "f16" if pictures else "none")
    load = Workload(key, settings.metric, rows, dim, item_bytes, normalized, remote, refine)
    is_trained = content is not None and content.trained is not None and content.trained.key == str(key)
    return load, notes, _recall(store, content) if is_trained and store and content else None


def _settings(options: Namespace, content: "_Content | None") -> IndexSettings:
    """Returns what the options ask for; what they leave open is that of the root, where there is one."""
    default = content.request.index if content is not None and options.index_key is None else IndexSettings()
    return IndexSettings(
        options.index_key or default.key,
        options.metric_type or (content.request.index.metric if content is not None else default.metric),
        options.max_index_memory or default.max_memory,
        options.code_size or default.code_size,
    )


def _with_room(settings: IndexSettings, rows: int, dim: int) -> tuple[IndexSettings, list[str]]:
    """Allows as much memory as the smallest index takes, where the limit is too little; a note says so."""
    for doublings in range(_DOUBLINGS):
        roomy = replace(settings, max_memory=settings.max_memory << doublings)
        try:
            key = choose(roomy, rows, dim, warn=False)
        except UsageError:
            continue
        limit = quantities.size_text(settings.max_memory)
        whose = "the default" if settings.max_memory == flags.DEFAULT_INDEX_MEMORY else "the root's"
        taken = quantities.size_text(index_bytes(key, rows, dim))
        note = f"{whose} --max-index-memory of {limit} is too little: build with {taken}"
        return roomy, [note] if doublings else []
    return settings, []


@dataclass(frozen=True)
class _Content:
    """What a root was asked for, and the vectors that it has, or will have."""

    request: Request
    rows: int
    left_out: dict[str, int]
    refine: Refine
    trained: TrainedIndex | None = None
    canaries: FileReference | None = None


def _content_of(store: Store, *, needed: bool) -> _Content | None:
    """Returns what is in a root: published, or planned by a run that is not finished; None where there is neither.

    Raises:
        UsageError: the root cannot be read, or there is neither, and it is `needed`.
    """
    try:
        if published := generations.current(store):
            left_out = tables.left_out_of(store, published.tables.containers)
            stores = any(block.vectors for block in tables.blocks_of(store, published))
            refine: Refine = published.request.index.refine if stores else "none"
            rows = published.totals.vectors
            return _Content(published.request, rows, left_out, refine, published.trained, published.canaries)
        run = beginning.unfinished(store)
        if run is not None and run.is_planned:
            left_out = tables.left_out_of(store, run.plan.containers)
            made = None if run.stage_marker("train") is None else run.trained()
            trained, watch = (None, None) if made is None else (made.trained, made.canaries)
            return _Content(run.request, run.plan.rows, left_out, _to_store(run.request), trained, watch)
    except PixdexError:
        raise
    except Exception as error:  # every object store raises its own
        raise UsageError(
            f"--root {store.url} cannot be read ({normalised_message(error)}): see to its address and credentials, or "
            "plan with --object-store instead"
        ) from error
    if needed:
        generations.check_there(store)
        raise UsageError(f"{store.url} holds no index and no plan: name --num-vectors and --dim")
    return None


def _to_store(request: Request) -> Refine:
    """How vectors will be stored: those of `.npy` files are not, for they are read where they lie."""
    lie = request.is_ready and all(source.pattern.lower().endswith(".npy") for source in request.sources)
    return "none" if lie else request.index.refine


def _recall(store: Store, content: _Content) -> Watched | None:
    """What training measured of the recall of its index: other than bytes and time it depends on the vectors."""
    if content.canaries is None or content.trained is None:
        return None
    from transforms.index import canaries  # noqa: PLC0415 - it imports faiss

    watch = canaries.load(store, content.canaries)
    return Watched(watch.recall_trained, len(watch.query_ids), len(watch.ids), watch.nprobe)


if __name__ == "__main__":
    process.run(main)
