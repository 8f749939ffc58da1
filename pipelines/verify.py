"""Says whether a generation is whole: every file, checksum and count, and every id in one place.

    pixdex verify --root ./photos

    pixdex verify --root ./photos --generation 7     # an earlier one
    pixdex verify --root ./photos --quick            # hashes nothing: files are there, and counts agree
    pixdex verify --root ./photos --json             # no table for people

Every file is read once, and lists and key tables once more for what is in them. What is wrong is said on stderr, a line
each, with the file and the way out, and the exit code is 1; a root that is whole exits with 0. Files that no generation
needs, which stopped runs can leave, are no fault: pixdex gc drops them. Ready embeddings lie elsewhere: that they have
not changed is seen by size and time, and they are not read. The last line on stdout is one JSON object: {"generation",
"ok", "files", "bytes", "vectors", "findings": [{"path", "what"}], "orphans": {"files", "bytes"}, "unfinished"}.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from pipelines.terminal import command_line, console, process, text_table
from pipelines.terminal.flags import Flag, Group, positive, switch
from pipelines.terminal.options import ROOT, TRUST_URIS, root_of
from pipelines.terminal.text_table import Column
from transforms.errors import PixdexError, UsageError
from transforms.generations import published
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.runs import beginning
from transforms.storage import layout, outside
from transforms.storage.backend import StoredFile
from transforms.storage.store import Store
from transforms.upkeep import garbage
from transforms.upkeep import verify as verifying
from transforms.upkeep.report import REBUILD, REPAIR, REPAIR_AND_REBUILD, Report, reason_of

_SHOWN = 20

_LOST: Final = "is missing, and its plan says that it was published"
_LOST_WAY: Final = (
    "restore it from a backup, or run the command that made it once more: it publishes it anew, unless pixdex gc ran "
    "since, or with --abandon-plan goes on from the generation before"
)

OPTIONS: Final = (
    ROOT,
    Group(
        "VerifyOptions",
        "What is looked at",
        (
            Flag("--generation", "G", "which one (default: the current)", positive),
            switch("--quick", "look at sizes, tables and counts, and hash nothing"),
            switch("--json", "print only the JSON object"),
            TRUST_URIS,
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: verify(arguments))


def verify(argv: Sequence[str]) -> int:
    """Parses, looks and says."""
    options = command_line.parse("verify", __doc__, argv, OPTIONS)
    store = root_of(options)
    number, generation, report = _looked_at(store, options)
    run = beginning.unfinished(store)
    left, notes = _orphans(store)
    if left:
        size = sum(file.bytes for file in left)
        notes.append(f"{len(left):,} files of {size:,} bytes that no generation needs: pixdex gc drops them")
    if run is not None:
        notes.append(f"the run of generation {run.generation} is not finished: run its command again to go on")
    findings = report.findings
    for finding in findings[:_SHOWN]:
        console.say(text_table.plain(f"{finding.path} {finding.what}"))
    if report.count > _SHOWN:
        console.say(f"… and {report.count - _SHOWN:,} more")
    if all(any(finding.what.endswith(way) for finding in findings) for way in (REPAIR, REBUILD)):
        console.say(f"what is lost of shards and of lists comes back together: {REPAIR_AND_REBUILD}")
    vectors = 0 if generation is None else generation.totals.vectors
    if not options.json:
        if not findings:
            console.show(_table(store, number, report, vectors, quick=options.quick))
        for note in notes:
            console.say(f"note: {note}")
    console.show_json(
        {
            "generation": number,
            "ok": not findings,
            "files": report.files,
            "bytes": report.bytes,
            "vectors": vectors,
            "findings": [asdict(finding) for finding in findings],
            "orphans": {"files": len(left), "bytes": sum(file.bytes for file in left)},
            "unfinished": None if run is None else run.generation,
        }
    )
    return console.FAILED if findings else console.DONE


def _looked_at(store: Store, options: Namespace) -> tuple[int, Generation | None, Report]:
    """Returns the number of the generation, the generation where its manifest can be read, and what was found."""
    asked, lost = options.generation, published.lost(store)
    if lost is not None and (asked == lost or not published.numbers(store)):
        report = Report(store)
        report.found(layout.generation(lost), _LOST, _LOST_WAY)
        return lost, None, report
    number, generation, report = _looked_at_published(store, options)
    if lost is not None and asked is None:
        report.found(layout.generation(lost), _LOST, _LOST_WAY)
    return number, generation, report


def _looked_at_published(store: Store, options: Namespace) -> tuple[int, Generation | None, Report]:
    """Does the same for a generation whose manifest is there."""
    asked = options.generation
    try:
        generation = open_generation(store, asked)
    except UsageError:
        raise  # there is none
    except PixdexError as error:
        number = asked or published.numbers(store)[-1]
        path, report = layout.generation(number), Report(store)
        way_out = (
            "restore it from a backup, or delete it: then the command that made it, run again, publishes it anew "
            "(unless pixdex gc ran since), or with --abandon-plan goes on from the generation before"
        )
        report.found(path, reason_of(error, f"{store.url}/{path}"), way_out)
        return number, None, report
    if generation.request.is_ready:
        outside.check_sources(generation.request, trusted=options.trust_uris)
    return generation.generation, generation, verifying.verify(store, generation, quick=options.quick)


def _table(store: Store, number: int, report: Report, vectors: int, *, quick: bool) -> str:
    columns = [Column("generation", "right"), *(Column(name, "right") for name in ("files", "bytes", "vectors"))]
    row = [f"{number}", f"{report.files:,}", f"{report.bytes:,}", f"{vectors:,}"]
    whole = "has all its files, and its counts agree" if quick else "is whole"
    return f"{store.url} {whole}\n\n{text_table.render(columns, [row])}"


def _orphans(store: Store) -> tuple[list[StoredFile], list[str]]:
    """Returns files that neither a generation nor an unfinished run needs; or why they cannot be told."""
    needed: set[str] = set()
    for number in published.numbers(store):
        try:
            needed.update(published.files(store, open_generation(store, number)))
        except PixdexError:
            return [], [
                f"what files generation {number} needs cannot be read: those that nothing needs are not counted"
            ]
    run = beginning.unfinished(store)
    if run is not None:
        try:
            needed.update(garbage.needed_by(run))
        except PixdexError:
            why = f"what files the run of generation {run.generation} needs cannot be read"
            return [], [f"{why}: those that nothing needs are not counted"]
    return verifying.orphans(store, needed), []


if __name__ == "__main__":
    process.run(main)
