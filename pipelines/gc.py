"""Drops what no kept generation needs: old generations, their files, and what stopped runs left.

The newest three generations stay, and everything that is younger than a day:

    pixdex gc --root ./photos

What would go, and nothing else:

    pixdex gc --root ./photos --keep 1 --dry-run

A generation that was current within the last day stays as well, so that a search that opened it keeps working, and has
a day to open the next one; --older-than shortens that. What an unfinished run needs stays in any case. The last line on
stdout is one JSON object: {"kept", "removed_generations", "files", "bytes", "spared"}; `spared` are files that nothing
needs, but that are too young.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from pipelines.terminal import console, flags, options, quantities
from transforms.errors import UsageError
from transforms.generations import published
from transforms.runs import beginning
from transforms.storage.store import Store
from transforms.upkeep import garbage as collecting
from transforms.upkeep import lease

KEPT = 3
GRACE = "24h"


def _duration(text: str) -> float:
    seconds = quantities.seconds_of(text)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 24h, 30m, 7d or 0s")
    return seconds


class GcOptions(options.RootOptions):
    """What stays."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.add(
            parser, "--keep", type=flags.positive, default=KEPT, metavar="N", help="newest generations (default 3)"
        )
        flags.add(
            parser,
            "--older-than",
            type=_duration,
            default=_duration(GRACE),
            metavar="TIME",
            help="only what is older goes: 24h, 30m, 7d, 0s (default 24h)",
        )
        # Only so: Beam has a flag --dry_run of its own.
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
        flags.add(parser, "--json", action="store_true", help="print only the JSON object")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: collect(arguments))


def collect(argv: Sequence[str]) -> int:
    """Parses, looks, removes and says."""
    own, beam_flags = options.parse("gc", __doc__, argv, (options.RootOptions, GcOptions))
    options.refuse_beam_flags(beam_flags)
    store = options.root_of(own)
    if not published.numbers(store) and not beginning.runs(store):
        raise UsageError(f"{store.url} has no generation and no run: there is nothing to drop")
    if own.dry_run:
        garbage = _look(store, own.keep, own.older_than)
        return _say(garbage, dry_run=True, only_json=own.json)
    with lease.held(store, "gc"):
        garbage = _look(store, own.keep, own.older_than)
        collecting.remove(store, garbage)
        store.sweep_scratch()
    return _say(garbage, dry_run=False, only_json=own.json)


def _look(store: Store, keep: int, grace: float) -> collecting.Garbage:
    return collecting.find_garbage(store, keep, grace, time.time())


def _say(garbage: collecting.Garbage, *, dry_run: bool, only_json: bool) -> int:
    done = "would go" if dry_run else "removed"
    spared = f", {len(garbage.spared):,} files are too young" if garbage.spared else ""
    files = f"{len(garbage.files):,} files, {garbage.bytes:,} bytes"
    if not only_json:
        console.say(f"{done}: {len(garbage.generations):,} generations, {files}{spared}")
    console.show_json(
        {
            "kept": list(garbage.kept),
            "removed_generations": list(garbage.generations),
            "files": len(garbage.files),
            "bytes": garbage.bytes,
            "spared": len(garbage.spared),
            **({"dry_run": True} if dry_run else {}),
        }
    )
    return console.DONE


if __name__ == "__main__":
    sys.exit(main())
