"""What a merge reads: the shard indexes of a run, or the files of the tier that was made of them."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Final

from transforms.index.lists.format import Seal
from transforms.index.lists.merge import StepBuffers
from transforms.index.lists.reader import ListFile
from transforms.markers import ListsMarker, SegmentMarker
from transforms.records import FileReference, digest
from transforms.runs import inventory
from transforms.runs.run import Run
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


def open_lists(store: Store, file: FileReference) -> tuple[BufferedIOBase, ListFile]:
    """Opens a list file of a root; the stream is the caller's to close."""
    stream = store.open_ranges(file.path)
    try:
        return stream, ListFile(stream, file.path, Seal(file.bytes, file.checksum.removeprefix("xxh3:")))
    except BaseException:
        stream.close()
        raise


def merge_inputs(run: Run) -> MergeInputs:
    """What the merge of a run reads: the files of its tier when it has one, else its shard indexes."""
    tier = run.stage_marker("tier")
    if tier is not None and tier.tasks:
        markers = run.markers("tier", range(tier.tasks), SegmentMarker)
        references = [ListsReference(range(one.first_list, one.last_list), one.lists) for one in markers]
    else:
        lists = range(run.trained().trained.nlist)
        references = [ListsReference(lists, one.lists) for one in blocks(run)]
    return MergeInputs(run.store, references)


def blocks(run: Run) -> list[ListsMarker]:
    """The markers of the shard indexes that a run merges, in order; none: it merges nothing."""
    return [block.marker for block in inventory.lists(run).merged]


def merge_digest(run: Run, merged: Sequence[ListsMarker]) -> str:
    """The digest of a merge: of the trained index and these shard indexes, in order."""
    return digest(run.trained().trained.fingerprint, [marker.lists for marker in merged])


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop
