"""Drops what no kept generation needs: old generations, their files, and what stopped runs left.

The newest three generations stay, and everything that is younger than a day:

    pixdex gc --root ./photos

What would go, and nothing else:

    pixdex gc --root ./photos --keep 1 --dry-run

A generation that was current within the last day stays as well, so that a search that opened it keeps working, and has
a day to open the next one; --older-than shortens that. What an unfinished run needs stays in any case. So do, of every
night since the first build, the shards and lists of what it added and still lives, since a merge reads them again: one
file each for up to 65,536 rows. The last line on stdout is one JSON object: {"kept", "removed_generations", "files",
"bytes", "spared", "needed", "numbers"}; `spared` are files that nothing needs, but that are too young, `needed` those
that stay for what is kept, `numbers` those that keep numbers of runs from being used again.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

from pipelines.terminal import command_line, console, process, quantities
from pipelines.terminal.flags import Flag, Group, positive, switch
from pipelines.terminal.options import ROOT, root_of
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


OPTIONS: Final = (
    ROOT,
    Group(
        "GcOptions",
        "What stays",
        (
            Flag("--keep", "N", "newest generations (default 3)", positive, default=KEPT),
            Flag(
                "--older-than",
                "TIME",
                "only what is older goes: 24h, 30m, 7d, 0s (default 24h)",
                _duration,
                default=GRACE,
            ),
            switch("--dry-run", "say what would go, and remove nothing"),
            switch("--json", "print only the JSON object"),
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: collect(arguments))


def collect(argv: Sequence[str]) -> int:
    """Parses, looks, removes and says."""
    options = command_line.parse("gc", __doc__, argv, OPTIONS)
    store = root_of(options)
    published.check_there(store)
    if not published.numbers(store) and not beginning.runs(store):
        raise UsageError(f"{store.url} has no generation and no run: there is nothing to drop")
    if options.dry_run:
        garbage = _look(store, options.keep, options.older_than)
        return _say(garbage, dry_run=True, only_json=options.json)
    with lease.held(store, "gc"):
        garbage = _look(store, options.keep, options.older_than)
        collecting.remove(store, garbage)
        store.sweep_scratch()
    return _say(garbage, dry_run=False, only_json=options.json)


def _look(store: Store, keep: int, grace: float) -> collecting.Garbage:
    return collecting.find_garbage(store, keep, grace, time.time())


def _say(garbage: collecting.Garbage, *, dry_run: bool, only_json: bool) -> int:
    done = "would go" if dry_run else "removed"
    spared = f", {len(garbage.spared):,} files are too young" if garbage.spared else ""
    files = f"{len(garbage.files):,} files, {garbage.bytes:,} bytes"
    kept = ", ".join(map(str, garbage.kept)) or "none"
    if not only_json:
        console.say(f"{done}: {len(garbage.generations):,} generations, {files}{spared}")
        console.say(
            f"kept: generations {kept}, with {garbage.needed:,} files that they or an unfinished run need; "
            f"{garbage.numbers:,} files keep numbers of runs from being used again"
        )
    console.show_json(
        {
            "kept": list(garbage.kept),
            "removed_generations": list(garbage.generations),
            "files": len(garbage.files),
            "bytes": garbage.bytes,
            "spared": len(garbage.spared),
            "needed": garbage.needed,
            "numbers": garbage.numbers,
            **({"dry_run": True} if dry_run else {}),
        }
    )
    return console.DONE


if __name__ == "__main__":
    process.run(main)
