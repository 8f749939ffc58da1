"""Hides items from searches, at once and without a build, until they are shown again.

    pixdex hide --root ./shop 'file:///shop/items.csv#1234' 'file:///shop/items.csv#77'
    pixdex hide --root ./shop --keys blocklist.txt
    pixdex hide --root ./shop --where "visible = 'false'"

Keys are those of results (key of search --json); --keys names a file with one a line, --where hides what it is true for
now. No search returns a hidden item, by no query; reindexes and rollbacks keep it hidden, also where it changes, or
comes later. pixdex unhide shows it again. The next generation is published, with the same index: searches that open the
root from now on see it, and programs that refresh. Reports that are there may show what is hidden now: their pages are
dropped, and pixdex report makes another. The last line on stdout is one JSON object: {"generation", "hidden"}, hidden
counts all keys that are. Keys that no item has are counted on stderr: they hide what comes later.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.terminal import command_line, console, process
from pipelines.terminal.flags import Flag, Group
from pipelines.terminal.options import ROOT, root_of
from pipelines.terminal.queries import lines_of
from transforms.errors import UsageError
from transforms.generations import hidden
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.runs import beginning
from transforms.search.keys import keys_of_none
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


@dataclass(frozen=True)
class Change:
    """What a command does.

    Attributes:
        hidden: makes the keys that are hidden of those that were, and of those that are named.
        remark: says of keys that were given, and of those that were hidden, which have no effect; None: all have one.
    """

    hidden: Callable[[set[str], set[str]], set[str]]
    remark: Callable[[Store, Generation, set[str], set[str]], str | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(
        lambda: change(command_line.parse("hide", __doc__, arguments, OPTIONS), Change(set.union, _of_none))
    )


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
        given = set() if everything else _given(options)
        matched = _matched(store, options) if options.where and not everything else None
        after = how.hidden(before, before if everything else given | (matched or set()))
        remark = how.remark(store, current, given, before)
        if after == before:
            are = "key is" if len(before) == 1 else "keys are"
            console.say(f"{store.url}: the same {len(before):,} {are} hidden: nothing to do")
        else:
            dropped = hiding.drop_reports(store) if after - before else 0
            current = hiding.hide(store, current, after)
            console.say(f"{store.url}: generation {current.generation} hides {counted(len(after), 'key')}")
            if dropped:
                console.say(f"{counted(dropped, 'report')} may show them and went: pixdex report makes another")
        if remark is not None:
            console.say(remark)
        if matched is not None and not matched:
            console.say("--where is true for no item")
    console.show_json({"generation": current.generation, "hidden": len(after)})
    return console.DONE


def counted(number: int, noun: str) -> str:
    """Returns a number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _of_none(store: Store, current: Generation, given: set[str], _: set[str]) -> str | None:
    count = len(keys_of_none(store, current, sorted(given)))
    if not count:
        return None
    of = f"{count:,} of {counted(len(given), 'key')}"
    if count == 1:
        return f"{of} is no item of the root: it is kept, and hides one that comes"
    return f"{of} are no items of the root: they are kept, and hide those that come"


def _given(options: Namespace) -> set[str]:
    """The keys that a command line has, or a file that it names."""
    keys = {*options.key, *(lines_of("--keys", options.keys) if options.keys else ())}
    for key in keys:
        if not key.strip() or any(0xD800 <= ord(letter) < 0xE000 for letter in key):
            raise UsageError(f"{key!r} is no key: give one as results name it (key of --json)")
    return keys


def _matched(store: Store, options: Namespace) -> set[str]:
    """The keys of the items that a condition is true for."""
    return set(Searcher.open(store, with_hidden=True).keys_where(options.where))


if __name__ == "__main__":
    process.run(main)
