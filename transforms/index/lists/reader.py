"""Reads `.ivf` files (see `format`): any range of lists, every byte of it checked."""

import itertools
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from transforms.errors import PixdexError
from transforms.index.lists.format import (
    FENCE,
    FOOTER,
    FORMAT_VERSION,
    HEAD,
    ID_BYTES,
    MAGIC,
    TAIL,
    ListRange,
    ListSizes,
    Seal,
)

_FIRST_READ: Final = 16 << 10
_SIZE: Final = np.dtype([("list", "<u8"), ("size", "<u8")])
_VERIFIED_AT_ONCE: Final = 64 << 20


class RandomAccess(Protocol):
    """What reading needs of a file: any binary file open for reading, local or fsspec's (best `cache_type="none"`)."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to `offset` from the start (whence 0) or the end (2); returns the position."""
        ...

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fills `buffer` from the position on; returns how many bytes came."""
        ...


class ListFile:
    """Reads an `.ivf` file: tail and fences when opened, then any range of lists, checked fence by fence.

    `name` is for messages; `nlist`, `lists`, `code_size`, `fingerprint`, `rows`, `id_range` (bounds of its ids) and
    `seal` say what it holds; `fence_lists` and `fence_offsets`, int64 (fences + 1,), where a range can be cut at no
    cost. Memory: 40 bytes a fence. Every defect raises PixdexError. The file stays the caller's to close; one thread
    at a time.
    """

    def __init__(self, file: RandomAccess, name: str, seal: Seal | None = None) -> None:
        """Reads the last 16 KiB, then what of the fences lies before. `seal`: what the reference to the file says."""
        self.name, self._file = name, file
        self._length = file.seek(0, 2)
        if self._length < len(HEAD) + FOOTER.size + TAIL.size:
            raise self._damaged(f"it has only {self._length} bytes")
        last = self._read(max(0, self._length - _FIRST_READ), self._length)
        offset, length, checksum, version, magic = TAIL.unpack_from(last, len(last) - TAIL.size)
        if magic != MAGIC:
            raise self._damaged("it does not end like a list file")
        if version > FORMAT_VERSION:
            raise PixdexError(f"{name} has list format {version}, this pixdex reads {FORMAT_VERSION}: upgrade pixdex")
        if length < FOOTER.size or offset + length + TAIL.size != self._length or version < 1:
            raise self._damaged(f"its tail contradicts its length of {self._length} bytes")
        before = self._read(offset, max(offset, self._length - len(last)))
        footer = (before + last[: -TAIL.size])[-length:]
        if xxh3_64_intdigest(footer) != checksum:
            raise self._damaged("its footer does not match its checksum")
        self.seal = Seal(self._length, f"{checksum:016x}")
        if seal is not None and seal != self.seal:
            raise self._damaged(f"it is not the file that was referred to ({self.seal} instead of {seal})")
        nlist, first, stop, code_size, rows, nonempty, sizes_offset, count, low, high, text = FOOTER.unpack_from(footer)
        if length != FOOTER.size + count * FENCE.itemsize or sizes_offset + nonempty * _SIZE.itemsize != offset:
            raise self._damaged("its footer contradicts its length")
        if not (first < stop <= nlist and code_size and text.isascii()):
            raise self._damaged(f"its footer names lists {first}..{stop - 1} of {nlist}")
        self.nlist: int = nlist
        self.lists = range(first, stop)
        self.code_size: int = code_size
        self.rows: int = rows
        self.id_range: tuple[int, int] = (low, high)
        self.fingerprint: str = text.rstrip(b"\0").decode("ascii")
        fences = np.frombuffer(footer, FENCE, offset=FOOTER.size)
        self.fence_lists: NDArray[np.int64] = np.append(fences["list"], stop).astype(np.int64)
        self.fence_offsets: NDArray[np.int64] = np.append(fences["offset"], sizes_offset).astype(np.int64)
        self._size_indexes: NDArray[np.int64] = np.append(fences["size_index"], nonempty).astype(np.int64)
        self._checksums = {what: fences[what].copy() for what in ("bodies", "sizes")}
        in_order = [self.fence_lists, self.fence_offsets, self._size_indexes]
        starts = [int(bounds[0]) for bounds in in_order]
        if starts != [first, len(HEAD), 0] or any((np.diff(bounds) < 0).any() for bounds in in_order):
            raise self._damaged("its fences are not in order")

    def span(self, lists: range) -> int:
        """Bytes of bodies between the fences around `lists`: what `read_into` needs of a buffer."""
        first, stop = self._fences_around(lists)
        return int(self.fence_offsets[stop] - self.fence_offsets[first])

    def sizes(self, lists: range | None = None) -> ListSizes:
        """Sizes of the non-empty lists among `lists` (default: all). Reads 16 bytes for each up to the next fences."""
        wanted = self.lists if lists is None else lists
        return _within(self._sizes(*self._fences_around(wanted)), wanted)[0]

    def read_into(self, lists: range, buffer: NDArray[np.uint8]) -> tuple[ListSizes, int]:
        """Reads bodies from the fence before `lists` to the fence after them; `buffer` uint8 (span(lists),).

        Returns the sizes of the non-empty lists among `lists`, and where in `buffer` the first of them starts. Two
        ranged reads: sizes and bodies.
        """
        first, stop = self._fences_around(lists)
        fenced = self._sizes(first, stop)
        stored, skipped = _within(fenced, lists)
        offset = int(self.fence_offsets[first])
        entry = self.code_size + ID_BYTES
        if fenced.rows * entry != len(buffer):
            raise self._damaged(f"the sizes of its lists {lists.start}..{lists.stop - 1} contradict its fences")
        self._fill(offset, buffer.data)
        self._check("bodies", first, buffer, self.fence_offsets[first : stop + 1] - offset)
        return stored, skipped * entry

    def read(self, lists: range) -> ListRange:
        """The lists of a range, in memory in proportion to them (and the rest of their first and last fence)."""
        buffer = np.empty(self.span(lists), np.uint8)
        stored, start = self.read_into(lists, buffer)
        return ListRange(stored, self.code_size, buffer[start : start + stored.rows * (self.code_size + ID_BYTES)])

    def verify(self) -> None:
        """Reads and checks the whole file, at most 64 MiB (or one fence) at a time."""
        if self._read(0, len(HEAD)) != HEAD:
            raise self._damaged("it does not begin like a list file")
        cuts = np.unique(self.fence_offsets // _VERIFIED_AT_ONCE, return_index=True)[1].tolist()
        for first, stop in zip(cuts, [*cuts[1:], len(self.fence_lists) - 1], strict=True):
            lists = range(int(self.fence_lists[first]), int(self.fence_lists[stop]))
            if lists:
                self.read_into(lists, np.empty(self.span(lists), np.uint8))

    def _fences_around(self, lists: range) -> tuple[int, int]:
        first, stop = max(lists.start, self.lists.start), min(lists.stop, self.lists.stop)
        if first >= stop:
            return 0, 0
        bounds = self.fence_lists
        return int(np.searchsorted(bounds, first, side="right")) - 1, int(np.searchsorted(bounds, stop))

    def _sizes(self, first: int, stop: int) -> ListSizes:
        bounds = self._size_indexes[first : stop + 1]
        table = int(self.fence_offsets[-1])
        raw = np.empty(int(bounds[-1] - bounds[0]) * 16, np.uint8)
        self._fill(table + int(bounds[0]) * 16, raw.data)
        self._check("sizes", first, raw, (bounds - bounds[0]) * 16)
        pairs = raw.view(_SIZE)
        list_nos, sizes = pairs["list"].astype(np.int64), pairs["size"].astype(np.int64)
        low, high = int(self.fence_lists[first]), int(self.fence_lists[stop])
        outside = (list_nos < low) | (list_nos >= high) | (sizes <= 0)
        if outside.any() or (np.diff(list_nos) <= 0).any():
            raise self._damaged(f"its lists {low}..{high - 1} are not those between its fences, in order")
        return ListSizes(list_nos, sizes)

    def _check(self, what: str, first: int, data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> None:
        view, edges = data.data, bounds.tolist()
        expected = self._checksums[what][first : first + len(edges) - 1].tolist()
        for fence, (start, stop) in enumerate(itertools.pairwise(edges), first):
            if xxh3_64_intdigest(view[start:stop]) != expected[fence - first]:
                low, high = self.fence_lists[fence], self.fence_lists[fence + 1] - 1
                raise self._damaged(f"the {what} of its lists {low}..{high} do not match their checksum")

    def _read(self, start: int, stop: int) -> bytes:
        data = bytearray(stop - start)
        self._fill(start, memoryview(data))
        return bytes(data)

    def _fill(self, offset: int, view: memoryview) -> None:
        if not len(view):
            return
        self._file.seek(offset)
        done = 0
        while done < len(view):
            got = self._file.readinto(view[done:])
            if not got:
                raise self._damaged(f"it ends at byte {offset + done}")
            done += got

    def _damaged(self, why: str) -> PixdexError:
        return PixdexError(
            f"{self.name} is damaged or truncated: {why}; delete it and run the step that wrote it again"
        )


def _within(stored: ListSizes, lists: range) -> tuple[ListSizes, int]:
    """The sizes of `lists` alone, and the number of entries before them."""
    first, stop = np.searchsorted(stored.list_nos, [lists.start, lists.stop]).tolist()
    return ListSizes(stored.list_nos[first:stop], stored.sizes[first:stop]), int(stored.sizes[:first].sum())
