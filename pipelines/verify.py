"""Says whether a generation is whole: every file, checksum and count, and every id in one place.

    pixdex verify --root ./photos

    pixdex verify --root ./photos --generation 7     # an earlier one
    pixdex verify --root ./photos --quick            # only whether files are there, and counts agree: reads no content

Everything is read once. What is wrong is said on stderr, a line each, with the file and the way out, and the exit code
is 1; a root that is whole exits with 0. Files that no generation needs, which stopped runs can leave, are no fault:
pixdex gc drops them. The last line on stdout is one JSON object: {"generation", "ok", "files", "bytes", "vectors",
"findings": [{"path", "what"}], "orphans": {"files", "bytes"}, "unfinished"}.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from pipelines import console, flags, options
from transforms import collecting, generations, verifying
from transforms.searching import open_generation
from transforms.store import Found, Store

_SHOWN = 20


class VerifyOptions(options.RootOptions):
    """What is looked at."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.add(parser, "--generation", type=flags.positive, metavar="G", help="which one (default: the current)")
        flags.add(parser, "--quick", action="store_true", help="look at sizes and counts, and read no content")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: verify(arguments))


def verify(argv: Sequence[str]) -> int:
    """Parses, looks and says."""
    own, beam_flags = options.parse("verify", __doc__, argv, (options.RootOptions, VerifyOptions))
    options.refuse_beam_flags(beam_flags)
    store = options.root_of(own)
    generation = open_generation(store, own.generation)
    report = verifying.verify(store, generation, quick=own.quick)
    unfinished = generations.unfinished(store)
    left = [] if report.findings else _orphans(store)
    for finding in report.findings[:_SHOWN]:
        console.say(f"{finding.path} {finding.what}")
    if len(report.findings) > _SHOWN:
        console.say(f"… and {len(report.findings) - _SHOWN} more, in the JSON on stdout")
    if not report.findings:
        console.say(
            f"{store.url}: generation {generation.generation} is whole: {report.files:,} files, "
            f"{report.bytes:,} bytes, {generation.totals.vectors:,} vectors"
        )
    if left:
        console.say(f"{len(left):,} files that no generation needs: pixdex gc drops them")
    if unfinished is not None:
        console.say(f"the run of generation {unfinished.generation} is not finished: run its command again to go on")
    console.show_json(
        {
            "generation": generation.generation,
            "ok": not report.findings,
            "files": report.files,
            "bytes": report.bytes,
            "vectors": generation.totals.vectors,
            "findings": [asdict(finding) for finding in report.findings],
            "orphans": {"files": len(left), "bytes": sum(file.bytes for file in left)},
            "unfinished": None if unfinished is None else unfinished.generation,
        }
    )
    return console.FAILED if report.findings else console.DONE


def _orphans(store: Store) -> list[Found]:
    """Files that neither a generation nor an unfinished run needs."""
    needed = {
        path
        for number in generations.numbers(store)
        for path in generations.files(store, open_generation(store, number))
    }
    unfinished = generations.unfinished(store)
    if unfinished is not None:
        needed |= set(collecting.needed_by(unfinished))
    return verifying.orphans(store, needed)


if __name__ == "__main__":
    sys.exit(main())
