"""Shows items again that pixdex hide has hidden.

    pixdex unhide --root ./shop 'file:///shop/items.csv#1234'
    pixdex unhide --root ./shop --keys blocklist.txt
    pixdex unhide --root ./shop --all

The next generation is published, with the same index. The last line on stdout is one JSON object: {"generation",
"hidden"}, hidden counts the keys that still are.
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.hide import KEYS, Change, change, counted
from pipelines.terminal import command_line, console, process
from pipelines.terminal.flags import Group, switch
from pipelines.terminal.options import ROOT
from transforms.generations.manifest import Generation
from transforms.storage.store import Store

OPTIONS: Final = (ROOT, KEYS, Group("AllOptions", "All of them", (switch("--all", "show all that are hidden"),)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: unhide(arguments))


def unhide(argv: Sequence[str]) -> int:
    """Parses, publishes and says."""
    options = command_line.parse("unhide", __doc__, argv, OPTIONS)
    return change(options, Change(set.difference, _not_hidden), everything=options.all)


def _not_hidden(_: Store, __: Generation, given: set[str], before: set[str]) -> str | None:
    count = len(given - before)
    were = "was" if count == 1 else "were"
    return f"{count:,} of {counted(len(given), 'key')} {were} not hidden" if count else None


if __name__ == "__main__":
    process.run(main)
