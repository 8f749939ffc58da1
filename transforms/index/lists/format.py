"""The `.ivf` file: inverted lists, readable by any range of lists, checked by every read.

One format for shard indexes, segments, deltas and the stored training sample (there a "code" is a raw vector). All
numbers are little-endian, all checksums xxh3_64.

    head     16 bytes   magic `PIXLISTS`, u64 format version
    bodies              list by list: its codes (size x code_size bytes), then its ids (size x i64, ascending);
                        an empty list takes no bytes
    sizes               (u64 list, u64 size) of every non-empty list, ascending
    footer   144 bytes  u64 nlist, first list, stop list, code_size, rows, non-empty lists, offset of the sizes, fences;
                        i64 smallest and largest id; the trained index's fingerprint (64 bytes of ASCII, zero padded)
             40 each    a fence: u64 first list, offset of its bodies, index of its first size, checksum of its bodies,
                        checksum of its sizes
    tail     40 bytes   u64 offset, length and checksum of the footer, u64 format version, magic `PIXLISTS`

The footer's checksum covers the fences' checksums, and these the bodies and sizes: length and footer checksum (`Seal`)
identify a file. Fences stand at multiples of a power of two, so that files over the same lists have fences in common,
and a merge that cuts there reads and checks every byte once.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.lists.gather import gather

FORMAT_VERSION: Final = 1
MAX_FENCES: Final = 4096
FENCE_BYTES: Final = 64 << 10
ID_BYTES: Final = 8

MAGIC: Final = b"PIXLISTS"
HEAD: Final = struct.pack("<8sQ", MAGIC, FORMAT_VERSION)
FOOTER: Final = struct.Struct("<8Q2q64s")
FENCE: Final = np.dtype([(name, "<u8") for name in ("list", "offset", "size_index", "bodies", "sizes")])
TAIL: Final = struct.Struct("<4Q8s")


@dataclass(frozen=True)
class Seal:
    """What a reference to a list file records beside its path: length in bytes and footer checksum (16 hex digits)."""

    bytes: int
    checksum: str


@dataclass(frozen=True)
class ListSizes:
    """Sizes of the non-empty lists of a range: `list_nos` int64 (k,) ascending, `sizes` int64 (k,) positive."""

    list_nos: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of entries in these lists."""
        return int(self.sizes.sum())


@dataclass(frozen=True)
class ListRange:
    """The lists of a range in memory: sizes, and bodies as uint8 (bytes,) in the file's layout."""

    stored: ListSizes
    code_size: int
    body: NDArray[np.uint8]

    def unpack(self) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        """Entry by entry: list numbers int64 (n,), codes uint8 (n, code_size), ids int64 (n,). Copies the body once."""
        bounds = np.append(segment_starts(self.stored.sizes, self.code_size), len(self.body))
        codes_of, ids_of = np.arange(len(bounds) - 1).reshape(-1, 2).T
        codes = np.frombuffer(b"".join(gather(self.body, bounds, codes_of)), np.uint8)
        ids = np.frombuffer(b"".join(gather(self.body, bounds, ids_of)), "<i8").astype(np.int64, copy=False)
        return np.repeat(self.stored.list_nos, self.stored.sizes), codes.reshape(-1, self.code_size), ids

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Entry by entry: list numbers and ids, int64 (n,) both. Copies no code."""
        bounds = np.append(segment_starts(self.stored.sizes, self.code_size), len(self.body))
        ids_of = 2 * np.arange(len(self.stored.sizes)) + 1
        ids = np.frombuffer(b"".join(gather(self.body, bounds, ids_of)), "<i8").astype(np.int64, copy=False)
        return np.repeat(self.stored.list_nos, self.stored.sizes), ids


def segment_starts(sizes: NDArray[np.int64], code_size: int) -> NDArray[np.int64]:
    """Where codes and ids of each list start in a body: int64 (2 x lists,), codes and ids by turns."""
    starts = np.empty((len(sizes), 2), np.int64)
    starts[:, 0] = (np.cumsum(sizes) - sizes) * (code_size + ID_BYTES)
    starts[:, 1] = starts[:, 0] + sizes * code_size
    return starts.reshape(-1)


def fence_spacing(lists: range, body_bytes: int, fence_bytes: int = FENCE_BYTES) -> int:
    """Lists from fence to fence: the smallest power of two that makes ≤ 4,096 fences of ≥ `fence_bytes` on average.

    Smaller fences make smaller ranges readable alone; each costs 40 bytes and a checksum call in every reader.
    """
    spacing, limit = 1, max(1, min(MAX_FENCES, body_bytes // max(1, fence_bytes)))
    while fence_count(lists, spacing) > limit and spacing < lists.stop:
        spacing *= 2
    return spacing


def fence_count(lists: range, spacing: int) -> int:
    """How many fences a file over `lists` has, one every `spacing` lists."""
    return (lists.stop - 1) // spacing - lists.start // spacing + 1
