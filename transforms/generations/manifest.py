"""The manifest of a generation: sealed with a checksum of itself, since nothing else names it."""

from dataclasses import replace

from transforms.errors import PixdexError
from transforms.records import Generation, digest
from transforms.storage import layout
from transforms.storage.store import Store


def seal(generation: Generation) -> Generation:
    """Returns a manifest with the checksum of the rest of it."""
    unsealed = replace(generation, checksum="")
    return replace(unsealed, checksum=digest(unsealed))


def read(store: Store, number: int) -> Generation:
    """Reads the manifest of a generation.

    Raises:
        PixdexError: there is none, or it is damaged.
    """
    path = layout.generation(number)
    found = store.read_record(path, Generation)
    if found.checksum and found != seal(found):
        raise PixdexError(
            f"{store.url}/{path} is damaged, it does not match its checksum: restore it from a backup, or delete it to "
            "go back to the generation before"
        )
    return found
