"""Opens the list files that a run refers to: the file must be the one that was referred to."""

import contextlib
from collections.abc import Iterator
from io import BufferedIOBase

from transforms.index.lists.format import Seal
from transforms.index.lists.reader import ListFile
from transforms.records import FileReference
from transforms.storage.store import Store


def open_lists(store: Store, file: FileReference) -> tuple[BufferedIOBase, ListFile]:
    """Opens a list file of a root for ranged reads; the stream is the caller's to close.

    Raises:
        PixdexError: there is no such file, it is damaged, or it is another than the reference speaks of.
    """
    stream = store.open_ranges(file.path)
    try:
        return stream, ListFile(stream, file.path, seal_of(file))
    except BaseException:
        stream.close()
        raise


@contextlib.contextmanager
def opened_lists(store: Store, file: FileReference) -> Iterator[ListFile]:
    """Opens a list file as `open_lists` does, for the length of a block."""
    stream, lists = open_lists(store, file)
    with stream:
        yield lists


def seal_of(file: FileReference) -> Seal:
    """Returns what a list file must have for the seal, to be the one that is referred to."""
    return Seal(file.bytes, file.checksum.removeprefix("xxh3:"))
