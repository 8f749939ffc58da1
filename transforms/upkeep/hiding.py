"""Hiding and showing items: the current generation is published anew, with other hidden keys."""

from collections.abc import Iterable
from dataclasses import replace

from transforms.generations import hidden
from transforms.generations.manifest import Generation
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep.again import publish_again


def hide(store: Store, current: Generation, keys: Iterable[str]) -> Generation:
    """Publishes a generation anew with these keys hidden, and no others.

    Raises:
        PixdexError: another generation was published meanwhile.
    """
    return publish_again(store, with_hidden(current, store, keys))


def drop_reports(store: Store) -> int:
    """Drops the pages of all reports, which may show what is about to be hidden; returns how many there were.

    What a later report needs of a run stays, and shows no items: how long it took, and its evaluation.
    """
    numbers = [int(name) for name in store.names(layout.REPORTS) if name.isdecimal()]
    pages = [page for page in map(layout.report, numbers) if store.exists(page)]
    for page in pages:
        store.remove(page)
    return len(pages)


def with_hidden(generation: Generation, store: Store, keys: Iterable[str]) -> Generation:
    """Returns a manifest, not yet sealed, in which these keys are hidden."""
    return replace(generation, tables=replace(generation.tables, hidden=hidden.write(store, keys)))
