"""The file of a merged index as ranges of bytes, each with its checksum: its head, and the lists behind it.

What reads such a file believes its head: how many lists there are, how long each is, where centroids and codebooks
stand. A wrong byte there is a wrong answer at best, and at worst a read outside of memory. So whoever opens one looks
at its head first (`wrong_ranges`); the lists are looked at when that is asked for.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import Final

from xxhash import xxh3_64

from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.generations.tables import Row
from transforms.storage.store import Store, damaged

_READ_BYTES: Final = 4 << 20
_READERS: Final = min(8, 2 + (os.cpu_count() or 1))


@dataclass(frozen=True)
class FileRange:
    """Bytes `offset` to `offset + bytes` (exclusive) of a file, and their checksum, `xxh3:` and 16 hex digits.

    They are lists `first_list` to `last_list` (exclusive), or, of no list, the head of the file.
    """

    first_list: int
    last_list: int
    offset: int
    bytes: int
    checksum: str

    @property
    def is_head(self) -> bool:
        """Whether it is what stands before the lists."""
        return self.last_list == 0

    def __str__(self) -> str:
        """Names it for people."""
        what = "its head" if self.is_head else f"lists {self.first_list}..{self.last_list - 1}"
        return f"bytes {self.offset}..{self.offset + self.bytes - 1}, {what}"


def range_of(row: Row) -> FileRange:
    """Returns what a row of the table of ranges says."""
    return FileRange(row["first_list"], row["last_list"], row["offset"], row["bytes"], row["checksum"])


def ranges(store: Store, generation: Generation) -> list[FileRange]:
    """Returns the ranges of a merged file, its head first, which are all of it.

    Raises:
        PixdexError: their table is missing or damaged, or leaves a gap.
    """
    listed = [range_of(row) for row in tables.segment_rows(store, generation)]
    if not are_whole(listed, generation.trained.nlist, generation.index.bytes):
        raise damaged(store, generation.tables.segments.path, "its ranges are not the merged index")
    return listed


def are_whole(listed: Sequence[FileRange], nlist: int, size: int) -> bool:
    """Tells whether ranges are a head and all lists of a file of `size` bytes, without a gap."""
    lists = [part.first_list for part in listed] == [0, *(part.last_list for part in listed[:-1])]
    places = [part.offset for part in listed] == [0, *(part.offset + part.bytes for part in listed[:-1])]
    last = listed[-1] if listed else FileRange(0, 0, 0, 0, "")
    is_all = (last.last_list, last.offset + last.bytes) == (nlist, size)
    return lists and places and is_all and bool(listed) and listed[0].is_head


def checksum_of(stream: BufferedIOBase | RawIOBase, offset: int, length: int) -> str:
    """Returns the checksum of a range of a file, of what there is of it."""
    hasher, buffer = xxh3_64(), memoryview(bytearray(min(length, _READ_BYTES)))
    stream.seek(offset)
    while length and (got := stream.readinto(buffer[: min(length, _READ_BYTES)])):
        hasher.update(buffer[:got])
        length -= got
    return f"xxh3:{hasher.hexdigest()}"


def wrong_ranges(file: Path, listed: Iterable[FileRange]) -> Iterator[FileRange]:
    """Yields those ranges of a local file that do not match their checksum; several are read at once."""

    def matches(part: FileRange) -> bool:
        with file.open("rb", buffering=0) as stream:
            return checksum_of(stream, part.offset, part.bytes) == part.checksum

    looked = list(listed)
    with ThreadPoolExecutor(_READERS, "check") as pool:
        for part, is_right in zip(looked, pool.map(matches, looked), strict=True):
            if not is_right:
                yield part
