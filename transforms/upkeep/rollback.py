"""Going back: an earlier generation is published anew, under the next number."""

from dataclasses import replace

from transforms.errors import PixdexError
from transforms.generations import hidden, manifest, published
from transforms.generations.manifest import Generation
from transforms.records import encode
from transforms.runs import beginning
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep.hiding import with_hidden


def roll_back(store: Store, earlier: Generation) -> Generation:
    """Publishes an earlier generation anew; what was added since is new again for the next reindex.

    What is hidden now stays hidden.

    Raises:
        PixdexError: a file that it needs is gone or cut short, or another generation was published meanwhile.
    """
    published.check_whole(store, earlier)
    number = beginning.next_number(store)
    current = published.open_generation(store)
    again = with_hidden(earlier, store, hidden.read(store, current))
    again = manifest.seal(replace(again, generation=number, next_shard=beginning.next_shard(store)))
    if not store.create(layout.generation(number), encode(again)):
        raise PixdexError(f"{store.url}: generation {number} was published meanwhile: look at it, then run again")
    store.create(layout.rolled_back(number), b"{}\n")
    return again
