"""Going back: an earlier generation is published anew, under the next number."""

from transforms.generations import hidden, published
from transforms.generations.manifest import Generation
from transforms.storage.store import Store
from transforms.upkeep.again import publish_again
from transforms.upkeep.hiding import with_hidden


def roll_back(store: Store, earlier: Generation) -> Generation:
    """Publishes an earlier generation anew; what was added since is new again for the next reindex.

    What is hidden now stays hidden.

    Raises:
        PixdexError: a file that it needs is gone or cut short, or another generation was published meanwhile.
    """
    published.check_whole(store, earlier)
    current = published.open_generation(store)
    return publish_again(store, with_hidden(earlier, store, hidden.read(store, current)))
