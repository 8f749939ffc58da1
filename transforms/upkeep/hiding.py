"""Hiding and showing items: the current generation is published anew, with other hidden keys."""

from collections.abc import Iterable
from dataclasses import replace

from transforms.errors import PixdexError
from transforms.generations import hidden, manifest
from transforms.generations.manifest import Generation
from transforms.records import encode
from transforms.runs import beginning
from transforms.storage import layout
from transforms.storage.store import Store


def hide(store: Store, current: Generation, keys: Iterable[str]) -> Generation:
    """Publishes a generation anew with these keys hidden, and no others.

    Raises:
        PixdexError: another generation was published meanwhile.
    """
    number = beginning.next_number(store)
    again = replace(with_hidden(current, store, keys), generation=number, next_shard=beginning.next_shard(store))
    if not store.create(layout.generation(number), encode(manifest.seal(again))):
        raise PixdexError(f"{store.url}: generation {number} was published meanwhile: look at it, then run again")
    store.create(layout.rolled_back(number), b"{}\n")
    return again


def with_hidden(generation: Generation, store: Store, keys: Iterable[str]) -> Generation:
    """Returns a manifest, not yet sealed, in which these keys are hidden."""
    table = hidden.write(store, keys)
    version = manifest.version_of(generation.request, table)
    return replace(generation, tables=replace(generation.tables, hidden=table), format_version=version)
