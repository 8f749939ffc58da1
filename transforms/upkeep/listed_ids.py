"""Reads ids of a generation's lists in parts of bounded size: never the codes of more than one part; or their sizes."""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.index.faiss_file import TrainedLayout
from transforms.index.lists.format import ID_BYTES, ListSizes, segment_starts
from transforms.index.lists.gather import gather
from transforms.index.lists.opened import opened_lists
from transforms.index.trained import read_training
from transforms.records import FileReference
from transforms.storage.store import Store

PART_BYTES: Final = 64 << 20
_LISTS = struct.Struct("<4sQQ4sQ")
"""What stands before the sizes of the lists in a faiss file; see `index.faiss_file`."""


@dataclass(frozen=True)
class ListsPart:
    """Some lists of a file: those of a range, or, of a faiss file, `stored` that begin at byte `offset`."""

    file: FileReference
    lists: range
    stored: ListSizes | None = None
    offset: int = 0
    code_size: int = 0

    def ids(self, store: Store) -> NDArray[np.int64]:
        """Reads the ids, int64, list by list. Memory: the bodies of the lists, and their ids.

        Raises:
            PixdexError: the file is missing or damaged.
        """
        if self.stored is None:
            with opened_lists(store, self.file) as lists:
                lists_read = lists.read(self.lists)
            return _ids_of(lists_read.stored, lists_read.code_size, lists_read.body)
        length = self.stored.rows * (self.code_size + ID_BYTES)
        body = np.frombuffer(_read(store, self.file.path, self.offset, length), np.uint8)
        return _ids_of(self.stored, self.code_size, body)


def list_files(store: Store, generation: Generation) -> list[FileReference]:
    """Returns the `.ivf` files that a search scans: segments, where the index is kept so, and deltas."""
    merged = []
    if generation.is_segmented:
        merged = [tables.file_of(row) for row in tables.segment_rows(store, generation)]
    return merged + [block.lists for block in tables.blocks_of(store, generation) if not block.merged]


def parts_of_lists(store: Store, file: FileReference) -> Iterator[ListsPart]:
    """Cuts a list file at fences; a part is at most 64 MiB, or what lies between two fences."""
    with opened_lists(store, file) as lists:
        cuts = np.unique(lists.fence_offsets // PART_BYTES, return_index=True)[1].tolist()
        bounds = [int(lists.fence_lists[cut]) for cut in cuts] + [lists.lists.stop]
    for start, stop in itertools.pairwise(bounds):
        if stop > start:
            yield ListsPart(file, range(start, stop))


def parts_of_file(store: Store, generation: Generation) -> Iterator[ListsPart]:
    """Cuts a merged faiss file into parts of at most 64 MiB, or one list.

    Memory: 8 bytes a list.

    Raises:
        PixdexError: its lists are not those of its trained index, or are not as long as the file.
    """
    layout, file = read_training(store, generation.trained).layout, generation.index
    sizes, offset = _sizes(store, file, layout)
    occupied = np.flatnonzero(sizes)
    ends = np.cumsum(sizes[occupied]) * (layout.code_size + ID_BYTES)
    if offset + (int(ends[-1]) if len(ends) else 0) != file.bytes:
        raise PixdexError(f"{file.path} has {file.bytes} bytes, which its lists contradict")
    done = first = 0
    while first < len(occupied):
        stop = max(first + 1, int(np.searchsorted(ends, done + PART_BYTES, side="right")))
        chosen = occupied[first:stop]
        lists = range(int(chosen[0]), int(chosen[-1]) + 1)
        yield ListsPart(file, lists, ListSizes(chosen, sizes[chosen]), offset + done, layout.code_size)
        done, first = int(ends[stop - 1]), stop


def list_sizes(store: Store, generation: Generation) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns how many codes each list of the merged index has, and how many the deltas add, int64 `(nlist,)` each.

    Cost: 8 bytes a list are read, and of each delta, and each segment, its footer; no list is.

    Raises:
        PixdexError: a file is missing or damaged.
    """
    merged, added = np.zeros((2, generation.trained.nlist), np.int64)
    if not generation.is_segmented:
        merged, _ = _sizes(store, generation.index, read_training(store, generation.trained).layout)
    deltas = {block.lists for block in tables.blocks_of(store, generation) if not block.merged}
    for file in list_files(store, generation):
        with opened_lists(store, file) as lists:
            stored = lists.sizes()
        (added if file in deltas else merged)[stored.list_nos] += stored.sizes
    return merged, added


def _sizes(store: Store, file: FileReference, layout: TrainedLayout) -> tuple[NDArray[np.int64], int]:
    """Reads how long the lists of a faiss file are, int64 `(nlist,)`, and where the first begins."""
    head = _LISTS.unpack(_read(store, file.path, layout.head_bytes, _LISTS.size))
    kind, nlist, code_size, form, count = head
    is_table = count == nlist if form == b"full" else form == b"sprs" and count <= 2 * nlist and count % 2 == 0
    if (kind, nlist, code_size) != (b"ilar", layout.nlist, layout.code_size) or not is_table:
        raise PixdexError(f"{file.path} does not have the lists of its trained index")
    start = layout.head_bytes + _LISTS.size
    table = np.frombuffer(_read(store, file.path, start, 8 * count), "<u8").astype(np.int64)
    sizes = np.zeros(layout.nlist, np.int64)
    if form == b"full":
        sizes[:] = table
    elif ((table[::2] < 0) | (table[::2] >= layout.nlist)).any():
        raise PixdexError(f"{file.path} has lists that its trained index does not have")
    else:
        sizes[table[::2]] = table[1::2]
    return sizes, start + 8 * count


def _ids_of(stored: ListSizes, code_size: int, body: NDArray[np.uint8]) -> NDArray[np.int64]:
    bounds = np.append(segment_starts(stored.sizes, code_size), len(body))
    ids = b"".join(gather(body, bounds, np.arange(1, len(bounds) - 1, 2)))
    return np.frombuffer(ids, "<i8").astype(np.int64, copy=False)


def _read(store: Store, path: str, offset: int, length: int) -> bytearray:
    """Reads a range of a file."""
    data, done = bytearray(length), 0
    with store.open_ranges(path) as stream, memoryview(data) as view:
        stream.seek(offset)
        while done < length:
            got = stream.readinto(view[done:])
            if not got:
                raise PixdexError(f"{path} ends at byte {offset + done}")
            done += got
    return data
