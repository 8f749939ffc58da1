"""Opens the list files that a run refers to: the file must be the one that was referred to."""

import contextlib
from collections.abc import Iterator

from transforms.index.lists.format import Seal
from transforms.index.lists.reader import ListFile
from transforms.records import FileReference
from transforms.storage.store import Store


@contextlib.contextmanager
def opened_lists(store: Store, file: FileReference) -> Iterator[ListFile]:
    """Opens a list file for ranged reads.

    Raises:
        PixdexError: there is no such file, it is damaged, or it is another than the reference speaks of.
    """
    with store.open_ranges(file.path) as stream:
        yield ListFile(stream, file.path, Seal(file.bytes, file.checksum.removeprefix("xxh3:")))
