"""Hiding and showing items: the current generation is published anew, with other hidden keys."""

from collections.abc import Iterable
from dataclasses import replace

from transforms.generations import hidden
from transforms.generations.manifest import Generation
from transforms.storage.store import Store
from transforms.upkeep.again import publish_again


def hide(store: Store, current: Generation, keys: Iterable[str]) -> Generation:
    """Publishes a generation anew with these keys hidden, and no others.

    Raises:
        PixdexError: another generation was published meanwhile.
    """
    return publish_again(store, with_hidden(current, store, keys))


def with_hidden(generation: Generation, store: Store, keys: Iterable[str]) -> Generation:
    """Returns a manifest, not yet sealed, in which these keys are hidden."""
    return replace(generation, tables=replace(generation.tables, hidden=hidden.write(store, keys)))
