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

from pipelines.hide import KEYS, change
from pipelines.terminal import command_line, console, process
from pipelines.terminal.flags import Group, switch
from pipelines.terminal.options import ROOT

OPTIONS: Final = (ROOT, KEYS, Group("AllOptions", "All of them", (switch("--all", "show all that are hidden"),)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: unhide(arguments))


def unhide(argv: Sequence[str]) -> int:
    """Parses, publishes and says."""
    options = command_line.parse("unhide", __doc__, argv, OPTIONS)
    return change(options, set.difference, everything=options.all)


if __name__ == "__main__":
    process.run(main)
