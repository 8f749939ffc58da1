"""Says what a build will be, before there is any: index, parts, memory, bytes, hours, and the bottleneck.

A billion vectors of 512 components, on 64 workers:

    pixdex plan --num-vectors 1e9 --dim 512 --workers 64 --cores 8 --worker-memory 32G

Pictures that are to be embedded, of 200 KB each, where a worker embeds 300 a second:

    pixdex plan --num-vectors 50M --dim 512 --item-bytes 200K --items-per-second 300 --workers 16 --cores 8

The vectors, dimension and index of what is in a root:

    pixdex plan --root ./photos --workers 4

Hours rest on rates of this machine, once they are measured (a minute; kept in ~/.cache/pixdex/rates.json):

    pixdex plan --calibrate

Every figure comes with the formula that makes it; below them stand the rates. The last line is one JSON object.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NoReturn

from pipelines import console, plan_report, quantities
from transforms import generations, layout, rates
from transforms.capacity import Machines, Workload
from transforms.errors import UsageError
from transforms.forecast import forecast
from transforms.index import sizing
from transforms.index.choose import check_key, choose, index_bytes
from transforms.records import IndexSettings, Request
from transforms.store import Store

MOST_VECTORS: Final = 10**15
MOST_DIMENSIONS: Final = 1 << 16
MOST_WORKERS: Final = 10**6
MOST_CORES: Final = 4096

_ITEM_BYTES: Final = "100K"
_BANDWIDTH: Final = "1G"
_METRICS: Final = ("ip", "l2", "l1")
_DOUBLINGS: Final = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: plan(arguments))


def plan(argv: Sequence[str]) -> int:
    """Parses, computes and says."""
    own = _parse(argv)
    if own.calibrate:
        from pipelines.plan_calibration import calibrate  # noqa: PLC0415 - it imports Beam, which takes seconds

        console.show_json(calibrate().values())
        return console.DONE
    load, notes = _load(own)
    cores = quantities.count("--cores", own.cores, MOST_CORES) if own.cores else os.cpu_count() or 1
    workers = quantities.count("--workers", own.workers, MOST_WORKERS)
    bandwidth = own.bandwidth or (_BANDWIDTH if workers > 1 else None)
    machines = Machines(workers, cores, quantities.size("--bandwidth", bandwidth) if bandwidth else None)
    if own.worker_memory:
        memory = quantities.size("--worker-memory", own.worker_memory)
        sizing.check_worker_memory(load.key, load.metric, load.rows, load.dim, memory)
    embedded = quantities.rate("--items-per-second", own.items_per_second) if own.items_per_second else None
    found = forecast(load, machines, rates.load() or rates.DEFAULT, embedded)
    if not own.json:
        console.show(plan_report.text_of(found, notes) + "\n")
    console.show_json(plan_report.as_json(found, notes))
    return console.DONE


def _load(own: argparse.Namespace) -> tuple[Workload, list[str]]:
    """Returns what is to be built, and what should be said about it."""
    settings, found = IndexSettings(own.index_key or "auto", own.metric_type or "ip", code_size=_code_size(own)), None
    rows, dim = own.num_vectors and quantities.count("--num-vectors", own.num_vectors, MOST_VECTORS), 0
    if own.root:
        found, there = _found(own.root)
        rows, dim = rows or there, found.encoder.dim
        if own.index_key is None:
            settings = replace(found.index, metric=own.metric_type or found.index.metric)
    if not rows or not (dim or own.dim):
        raise UsageError("name what to plan: --num-vectors N --dim D, or --root R")
    dim = quantities.count("--dim", own.dim, MOST_DIMENSIONS) if own.dim else dim
    check_key(settings, dim)
    notes: list[str] = []
    if own.max_index_memory:
        settings = replace(settings, max_memory=quantities.size("--max-index-memory", own.max_index_memory))
    elif settings.key == "auto":
        settings, notes = _with_room(settings, rows, dim)
    key = choose(settings, rows, dim, warn=False)
    pictures = own.item_bytes or own.items_per_second
    if found is not None and not pictures:
        pictures = any(source.kind != "vectors" for source in found.sources)
    item_bytes = quantities.size("--item-bytes", own.item_bytes or _ITEM_BYTES) if pictures else None
    return Workload(key, settings.metric, rows, dim, item_bytes), notes


def _code_size(own: argparse.Namespace) -> int | None:
    return quantities.count("--code-size", own.code_size, MOST_DIMENSIONS) if own.code_size else None


def _with_room(settings: IndexSettings, rows: int, dim: int) -> tuple[IndexSettings, list[str]]:
    """Allows as much memory as the smallest index takes, where the default is too little; a note says so."""
    for doublings in range(_DOUBLINGS):
        roomy = replace(settings, max_memory=settings.max_memory << doublings)
        try:
            key = choose(roomy, rows, dim, warn=False)
        except UsageError:
            continue
        taken = -(-index_bytes(key, rows, dim) >> 30) + 1
        note = f"the default --max-index-memory of {settings.max_memory >> 30}G is too little: build with {taken}G"
        return roomy, [note] if doublings else []
    return settings, []


def _found(root: str) -> tuple[Request, int]:
    """Returns the request of a root, and its vectors: those published, or planned by a run that is not finished.

    Raises:
        UsageError: there is neither.
    """
    store = Store.at(root)
    if published := generations.current(store):
        return published.request, published.totals.vectors
    run = generations.unfinished(store)
    if run is None or not store.exists(layout.plan(run.generation)):
        raise UsageError(f"{store.url} holds no index and no plan: name --num-vectors and --dim")
    return run.request, run.plan.rows


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see pixdex plan --help")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line, without Beam: its options take seconds to import, and no pipeline runs here.

    Raises:
        UsageError: an unknown flag, with the nearest one.
    """
    parser = _Parser(
        prog="pixdex plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for flag, metavar, text in _FLAGS:
        spellings = dict.fromkeys([flag, "--" + flag[2:].replace("-", "_")])
        if metavar is None:
            parser.add_argument(*spellings, action="store_true", help=text)
        else:
            parser.add_argument(*spellings, metavar=metavar, help=text)
    parser.set_defaults(workers="1")
    own, unknown = parser.parse_known_args(list(argv))
    if unknown:
        word = unknown[0].partition("=")[0]
        near = difflib.get_close_matches(word, parser._option_string_actions, n=1, cutoff=0.5)
        raise UsageError(f"unknown flag {word}{f', did you mean {near[0]}?' if near else ''}; see pixdex plan --help")
    if own.metric_type not in (None, *_METRICS):
        raise UsageError(f"--metric-type {own.metric_type} is none of {', '.join(_METRICS)}")
    return own


_FLAGS: Final[tuple[tuple[str, str | None, str], ...]] = (
    ("--num-vectors", "N", "vectors, such as 1000000, 1e9 or 250M"),
    ("--dim", "D", "components of a vector"),
    ("--root", "R", "take vectors, dimension and index from what is there"),
    ("--index-key", "KEY", "auto, Flat, or a faiss factory string (default auto)"),
    ("--metric-type", "METRIC", "ip, l2 or l1 (default ip)"),
    ("--max-index-memory", "SIZE", "the index auto chooses fits it (default 16G, or what the smallest index takes)"),
    ("--code-size", "BYTES", "bytes a vector that auto compresses to"),
    ("--workers", "W", "machines that work (default 1)"),
    ("--cores", "C", "cores of each (default: of this machine)"),
    ("--worker-memory", "SIZE", "memory of each: what cannot fit is refused"),
    ("--bandwidth", "SIZE", "bytes a second between a worker and the storage (default 1G; no limit for one worker)"),
    ("--item-bytes", "SIZE", "pictures are embedded, of this mean size (default: ready embeddings, float16)"),
    ("--items-per-second", "RATE", "pictures that one worker embeds a second; without it their hours are left out"),
    ("--calibrate", None, "measure this machine for a minute, and keep the rates for later plans"),
    ("--json", None, "print only the JSON object"),
)


if __name__ == "__main__":
    sys.exit(main())
