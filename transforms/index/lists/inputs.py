"""The list files that a merge reads, or a search copies: opened when they are needed, with the memory of the work."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Final

from transforms.index.lists.merge import StepBuffers
from transforms.index.lists.opened import open_lists
from transforms.index.lists.reader import ListFile
from transforms.records import FileReference
from transforms.storage import open_files
from transforms.storage.store import Store

_OPENERS: Final = 16
"""Opening a file takes a far-away store some requests: open this many at a time."""

_READERS: Final = 8
"""Requests of an object store that run at once while a step is read."""


@dataclass(frozen=True)
class ListsReference:
    """A list file, and the lists that it answers for."""

    lists: range
    file: FileReference


class MergeInputs:
    """List files of a root, opened when they are first needed, and the memory of a merge: what a worker keeps.

    For one thread. Memory beside the buffers: 40 bytes a fence of every file opened, at most 160 KiB each.
    """

    def __init__(self, store: Store, references: Sequence[ListsReference]) -> None:
        """Opens nothing yet."""
        self.buffers = StepBuffers(readers=1 if store.local else _READERS)
        self._store, self._references = store, references
        self._opened: dict[str, ListFile] = {}
        self._streams = contextlib.ExitStack()

    def over(self, lists: range) -> list[ListFile]:
        """The files that answer for some of these lists.

        Raises:
            PixdexError: one is missing, damaged, or not the one that is referred to; or they are more than the system
                lets a process have open.
        """
        files = [one.file for one in self._references if _overlap(one.lists, lists)]
        new = [file for file in files if file.path not in self._opened]
        if new and self._store.local is not None:
            open_files.raise_limit()
        with ThreadPoolExecutor(_OPENERS, "merge-open") as pool:
            for file, (stream, opened) in zip(new, pool.map(self._open, new), strict=True):
                self._streams.enter_context(stream)
                self._opened[file.path] = opened
        return [self._opened[file.path] for file in files]

    def close(self) -> None:
        """Closes the files."""
        self._streams.close()

    def _open(self, file: FileReference) -> tuple[BufferedIOBase, ListFile]:
        try:
            return open_lists(self._store, file)
        except OSError as error:
            if too_many := open_files.too_many(error, len(self._references)):
                raise too_many from error
            raise


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop
