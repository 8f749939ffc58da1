"""Hides items from searches, at once and without a build, until they are shown again.

    pixdex hide --root ./shop 'file:///shop/items.csv#1234' 'file:///shop/items.csv#77'
    pixdex hide --root ./shop --keys blocklist.txt
    pixdex hide --root ./shop --where "visible = 'false'"

Keys are those of results (key of search --json); --keys names a file with one a line, --where hides what it is true for
now. No search returns a hidden item, by no query; reindexes and rollbacks keep it hidden, also where it changes, or
comes later. pixdex unhide shows it again. The next generation is published, with the same index: searches that open the
root from now on see it, and programs that refresh. The last line on stdout is one JSON object: {"generation",
"hidden"}, hidden counts all keys that are.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Final

from pipelines.terminal import command_line, console, process
from pipelines.terminal.flags import Flag, Group
from pipelines.terminal.options import ROOT, root_of
from pipelines.terminal.queries import lines_of
from transforms.errors import UsageError
from transforms.generations import hidden
from transforms.generations.published import open_generation
from transforms.runs import beginning
from transforms.search.searcher import Searcher
from transforms.storage.store import Store
from transforms.upkeep import hiding, lease

KEYS: Final = Group(
    "KeyOptions",
    "Which items",
    (
        Flag("key", "KEY", "keys of items", nargs="*"),
        Flag("--keys", "FILE", "keys, one a line, in UTF-8"),
        Flag("--where", "SQL", "items for which it is true, as of pixdex search"),
    ),
)
OPTIONS: Final = (ROOT, KEYS)

Change = Callable[[set[str], set[str]], set[str]]
"""Makes the keys that are hidden of those that were, and of those that are named."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: change(command_line.parse("hide", __doc__, arguments, OPTIONS), set.union))


def change(options: Namespace, how: Change, *, everything: bool = False) -> int:
    """Publishes the current generation with other hidden keys, unless these are the same; and says so."""
    store = root_of(options)
    if not (everything or options.key or options.keys or options.where):
        raise UsageError("name items: KEY…, --keys FILE or --where SQL")
    open_generation(store)
    with lease.held(store, "hide"):
        beginning.check_none_unfinished(store)
        current = open_generation(store)
        before = set(hidden.read(store, current))
        after = how(before, before if everything else _named(store, options))
        if after == before:
            console.say(f"{store.url}: the same {len(before):,} keys are hidden: nothing to do")
        else:
            current = hiding.hide(store, current, after)
            console.say(f"{store.url}: generation {current.generation} hides {len(after):,} keys")
    console.show_json({"generation": current.generation, "hidden": len(after)})
    return console.DONE


def _named(store: Store, options: Namespace) -> set[str]:
    """The keys that a command line names."""
    keys = {*options.key, *(lines_of("--keys", options.keys) if options.keys else ())}
    for key in keys:
        if not key.strip() or any(0xD800 <= ord(letter) < 0xE000 for letter in key):
            raise UsageError(f"{key!r} is no key: give one as results name it (key of --json)")
    if options.where:
        keys |= set(Searcher.open(store, with_hidden=True).keys_where(options.where))
    return keys


if __name__ == "__main__":
    process.run(main)
