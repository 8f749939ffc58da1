"""Makes the report of a generation: what it is, is worth and took, on one page with pictures.

Each build and reindex leaves one in the root, at reports/000003/index.html for generation 3. Of the current generation,
or of another that is still there, it is made anew with what is known by now:

    pixdex report --root ./photos
    pixdex report --root ./photos --generation 7
    pixdex report --root ./photos --output report.html       # a copy of it, for a mail

With the curve of an evaluation, which is kept, so that later reports of this generation have it, too:

    pixdex evaluate --root ./photos --output ./evaluation
    pixdex report --root ./photos --evaluation ./evaluation

The page has inputs and what was left out, rejects by reason, sizes of lists, training and drift, recall where somebody
measured it, some searches with pictures, near duplicates among some hundred rows, seconds and bytes of each stage, and
how generations went. It is one file, which loads and runs nothing, of 3 MB at most. Its numbers are those of pixdex
inspect --json and of pixdex evaluate. Beside it lies index_infos.json, as autofaiss names such figures.

Pictures are read where the sources are; --trust-uris reads those of a root that you trust anywhere. What its generation
hides is not shown, and pixdex hide drops the pages that may show it. The report is no part of a generation: pixdex gc
drops it with its generation, and nothing needs it. What a root holds, its report shows: captions, paths, names of
hosts; of addresses no users, passwords and queries.

A page with pictures is kept while none of them can be read, as when the sources are away, and the command says so;
--without-pictures replaces it.

The last line on stdout is one JSON object: {"report": path or URL}. With --output a root that cannot be written is a
warning, and the copy is the report.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipelines.terminal import command_line, console, process, run_report
from pipelines.terminal.flags import Flag, Group, positive, switch
from pipelines.terminal.options import ROOT, TRUST, root_of
from pipelines.terminal.queries import path_of
from transforms.errors import UsageError
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.rejects import normalised_message
from transforms.storage import layout, outside
from transforms.storage.addresses import without_credentials
from transforms.storage.store import Store

if TYPE_CHECKING:
    from transforms.report.make import Made

_PICTURE: Final = "data:image/jpeg"

OPTIONS: Final = (
    ROOT,
    Group(
        "ReportOptions",
        "What is shown",
        (
            Flag("--generation", "G", "which one (default: the current)", positive),
            Flag("--evaluation", "DIR", "with the curve of an evaluation: what pixdex evaluate --output wrote"),
            Flag("--output", "FILE", "write a copy of the page to this file, too"),
            switch("--without-pictures", "replace a page with pictures also while none of them can be read"),
        ),
    ),
    TRUST,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: report(arguments))


def report(argv: Sequence[str]) -> int:
    """Parses, looks, writes and says."""
    options = command_line.parse("report", __doc__, argv, OPTIONS)
    store = root_of(options)
    generation = open_generation(store, options.generation)
    if generation.request.is_ready:
        outside.check_sources(generation.request, trusted=options.trust_uris)
    copy = _copy(options)
    from transforms.report import evaluated, make  # noqa: PLC0415 - imports faiss, and --help needs none

    evaluation = None
    if options.evaluation is not None:
        evaluation = evaluated.evaluation_in(path_of("--evaluation", options.evaluation), generation)
    made = make.make(store, generation, evaluation=evaluation, trust_uris=options.trust_uris)
    console.show_json({"report": _written(made, store, generation, copy, is_forced=options.without_pictures)})
    return console.DONE


def _keep_pictures(made: "Made", store: Store, copy: Path | None) -> None:
    """Refuses to put a page whose pictures cannot be read now in the place of one that has them.

    Raises:
        UsageError: with the way out.
    """
    path = layout.report(made.generation)
    if _PICTURE in made.page or not store.exists(path) or _PICTURE.encode() not in store.read(path):
        return
    also = "" if copy is None else f" ({copy} is written)"
    raise UsageError(
        f"none of the pictures can be read now, and {store.url}/{path} has some: it is kept{also}; make the sources "
        "readable, or replace it with --without-pictures"
    )


def _written(made: "Made", store: Store, generation: Generation, copy: Path | None, *, is_forced: bool) -> str:
    """Writes a report, its copy first, and returns where it is: who has a copy needs no root that can be written."""
    if copy is not None:
        try:
            copy.write_text(made.page, encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"--output {copy} cannot be written ({error.strerror or error}): name another") from error
    if not is_forced:
        _keep_pictures(made, store, copy)
    try:
        made.write(store)
    except Exception as error:  # clients of stores raise anything
        if copy is None:
            raise
        console.say(f"{store.url} cannot be written ({normalised_message(error)}): the report is in {copy} alone")
        return str(copy)
    return run_report.place_of_report(store, generation)


def _copy(options: Namespace) -> Path | None:
    if options.output is None:
        return None
    if "://" in options.output:
        raise UsageError(
            f"--output {without_credentials(options.output)}: a copy is a file of this machine; name one, or "
            "leave it out: the report is in the root"
        )
    file = path_of("--output", options.output)
    if file.is_dir():
        raise UsageError(f"--output {options.output} is a folder: name a file in it")
    return file


if __name__ == "__main__":
    process.run(main)
