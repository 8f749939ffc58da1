"""A generation that is there is published anew, under the next number, with something else in its manifest."""

from dataclasses import replace

from transforms.errors import PixdexError
from transforms.generations import manifest
from transforms.generations.manifest import Generation
from transforms.record_json import encode
from transforms.runs import beginning
from transforms.storage import layout
from transforms.storage.store import Store


def publish_again(store: Store, generation: Generation) -> Generation:
    """Publishes a manifest, whose seal no longer need fit, as the next generation of its root; returns it.

    Raises:
        PixdexError: another generation was published meanwhile.
    """
    number = beginning.next_number(store)
    version = manifest.version_of(generation.request, generation.tables.hidden, generation.tuned)
    again = replace(generation, generation=number, next_shard=beginning.next_shard(store), format_version=version)
    again = manifest.seal(again)
    if not store.create(layout.generation(number), encode(again)):
        raise PixdexError(f"{store.url}: generation {number} was published meanwhile: look at it, then run again")
    store.create(layout.rolled_back(number), b"{}\n")
    return again
