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

import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_intdigest

from transforms.errors import PixdexError
from transforms.index.gather import gather

FORMAT_VERSION: Final = 1
MAX_FENCES: Final = 4096
FENCE_BYTES: Final = 64 << 10
ID_BYTES: Final = 8

_MAGIC: Final = b"PIXLISTS"
_HEAD: Final = struct.pack("<8sQ", _MAGIC, FORMAT_VERSION)
_FOOTER: Final = struct.Struct("<8Q2q64s")
_FENCE: Final = np.dtype([(name, "<u8") for name in ("list", "offset", "size_index", "bodies", "sizes")])
_TAIL: Final = struct.Struct("<4Q8s")
_FIRST_READ: Final = 16 << 10
_SORTED_AT_ONCE: Final = 64 << 20
_VERIFIED_AT_ONCE: Final = 64 << 20


class RandomAccess(Protocol):
    """What reading needs of a file: any binary file open for reading, local or fsspec's (best `cache_type="none"`)."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to `offset` from the start (whence 0) or the end (2); returns the position."""
        ...

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fills `buffer` from the position on; returns how many bytes came."""
        ...


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
    while _fence_count(lists, spacing) > limit and spacing < lists.stop:
        spacing *= 2
    return spacing


def _fence_count(lists: range, spacing: int) -> int:
    return (lists.stop - 1) // spacing - lists.start // spacing + 1


class ListWriter:
    """Writes one `.ivf` file front to back: `append` runs of lists in ascending order, then `finish`.

    Memory: 16 bytes a non-empty list. `out` needs `write` only. The same lists give the same bytes, however they are
    cut into runs.
    """

    def __init__(
        self, out: BinaryIO, *, nlist: int, lists: range, code_size: int, fingerprint: str, spacing: int
    ) -> None:
        """`lists` is the range that the file answers for, `spacing` a power of two (see `fence_spacing`)."""
        if not (0 <= lists.start < lists.stop <= nlist and lists.step == 1):
            raise ValueError(f"{lists} is no range of lists of an index of {nlist}")
        if code_size < 1 or len(fingerprint.encode("ascii")) > 64:
            raise ValueError(f"code_size {code_size} is below 1, or fingerprint {fingerprint!r} above 64 characters")
        if spacing & (spacing - 1) or _fence_count(lists, spacing) > MAX_FENCES:
            raise ValueError(f"spacing {spacing} is no power of two, or makes over {MAX_FENCES} fences of {lists}")
        self._out, self._nlist, self._lists, self._code_size = out, nlist, lists, code_size
        self._fingerprint, self._spacing = fingerprint, spacing
        self._first_fence = lists.start // spacing
        self._hashers = [xxh3_64() for _ in range(_fence_count(lists, spacing))]
        self._runs: list[ListSizes] = []
        self._next_list = lists.start
        out.write(_HEAD)

    def append(self, stored: ListSizes, body: Iterable[memoryview]) -> None:
        """Writes the bodies of these lists, given as chunks of bytes cut anywhere. They come after all lists before."""
        if not len(stored.list_nos):
            return
        first, last = int(stored.list_nos[0]), int(stored.list_nos[-1])
        if first < self._next_list or last >= self._lists.stop or (np.diff(stored.list_nos) <= 0).any():
            raise ValueError(f"lists {first}..{last} do not continue {self._lists} at {self._next_list}")
        ends = np.cumsum(stored.sizes) * (self._code_size + ID_BYTES)
        fence_of = stored.list_nos // self._spacing - self._first_fence
        last_in_fence = np.append(np.flatnonzero(np.diff(fence_of)), len(fence_of) - 1)
        fences, fence_ends = fence_of[last_in_fence].tolist(), ends[last_in_fence].tolist()
        position = current = 0
        for chunk in body:
            self._out.write(chunk)
            rest = memoryview(chunk).cast("B")
            while len(rest) and current < len(fences):
                part = rest[: fence_ends[current] - position]
                self._hashers[fences[current]].update(part)
                position += len(part)
                current += position == fence_ends[current]
                rest = rest[len(part) :]
            position += len(rest)
        if position != ends[-1]:
            raise ValueError(f"lists {first}..{last} take {ends[-1]} bytes, but came with {position}")
        self._runs.append(stored)
        self._next_list = last + 1

    def finish(self, id_range: tuple[int, int]) -> Seal:
        """Writes sizes, footer and tail. `id_range` bounds the ids from below and above; (0, -1) without entries."""
        sizes = np.empty((sum(len(run.sizes) for run in self._runs), 2), "<u8")
        if len(sizes):
            sizes[:, 0] = np.concatenate([run.list_nos for run in self._runs])
            sizes[:, 1] = np.concatenate([run.sizes for run in self._runs])
        entry_ends = np.append(0, np.cumsum(sizes[:, 1].astype(np.int64)))
        fences = np.zeros(len(self._hashers), _FENCE)
        fences["list"] = (self._first_fence + np.arange(len(fences))) * self._spacing
        fences["list"][0] = self._lists.start
        firsts = np.searchsorted(sizes[:, 0], fences["list"])
        fences["size_index"] = firsts
        fences["offset"] = len(_HEAD) + entry_ends[firsts] * (self._code_size + ID_BYTES)
        fences["bodies"] = [hasher.intdigest() for hasher in self._hashers]
        fences["sizes"] = [xxh3_64_intdigest(part.tobytes()) for part in np.split(sizes, firsts[1:])]
        sizes_offset = len(_HEAD) + int(entry_ends[-1]) * (self._code_size + ID_BYTES)
        about = (self._nlist, self._lists.start, self._lists.stop, self._code_size, int(entry_ends[-1]), len(sizes))
        header = _FOOTER.pack(*about, sizes_offset, len(fences), *id_range, self._fingerprint.encode("ascii"))
        footer = header + fences.tobytes()
        offset, checksum = sizes_offset + sizes.nbytes, xxh3_64_intdigest(footer)
        self._out.write(sizes.tobytes() + footer + _TAIL.pack(offset, len(footer), checksum, FORMAT_VERSION, _MAGIC))
        return Seal(offset + len(footer) + _TAIL.size, f"{checksum:016x}")


def write_lists(
    out: BinaryIO,
    *,
    list_nos: NDArray[np.integer],
    codes: NDArray[np.uint8],
    ids: NDArray[np.int64],
    nlist: int,
    fingerprint: str,
    lists: range | None = None,
    fence_bytes: int = FENCE_BYTES,
) -> Seal:
    """Writes entries that come in any order: `list_nos` (n,), `codes` uint8 (n, code_size), `ids` int64 (n,).

    `lists` defaults to all `nlist`. Memory beside the arguments: about 24 bytes an entry, and 128 MiB or twice the
    longest list. Raises PixdexError for a list number outside `lists` (-1: faiss could not assign the vector) and for
    an id that stands twice in one list.
    """
    lists = range(nlist) if lists is None else lists
    if codes.dtype != np.uint8 or ids.dtype != np.int64 or not list_nos.shape == ids.shape == codes.shape[:1]:
        raise ValueError(f"lists {list_nos.shape}, codes {codes.dtype} {codes.shape}, ids {ids.dtype} {ids.shape}")
    outside = np.flatnonzero((list_nos < lists.start) | (list_nos >= lists.stop))
    if len(outside):
        place = f"entry {outside[0]} (id {ids[outside[0]]}) is in list {list_nos[outside[0]]}"
        raise PixdexError(f"{place}, outside {lists.start}..{lists.stop - 1}: check that its vector is finite")
    order = _by_list_and_id(list_nos, ids, nlist)
    counts = np.bincount(list_nos.astype(np.int64) - lists.start, minlength=len(lists))
    occupied = np.flatnonzero(counts)
    list_of, sizes, ends = occupied + lists.start, counts[occupied], np.cumsum(counts[occupied])
    entry = codes.shape[1] + ID_BYTES
    spacing = fence_spacing(lists, len(ids) * entry, fence_bytes)
    writer = ListWriter(
        out, nlist=nlist, lists=lists, code_size=codes.shape[1], fingerprint=fingerprint, spacing=spacing
    )
    first = done = 0
    while first < len(sizes):
        stop = max(first + 1, int(np.searchsorted(ends, done + _SORTED_AT_ONCE // entry, side="right")))
        rows = order[done : int(ends[stop - 1])]
        run = ListSizes(list_of[first:stop], sizes[first:stop])
        _append_rows(writer, run, codes[rows], ids[rows])
        first, done = stop, done + len(rows)
    return writer.finish((int(ids.min()), int(ids.max())) if len(ids) else (0, -1))


def _by_list_and_id(list_nos: NDArray[np.integer], ids: NDArray[np.int64], nlist: int) -> NDArray[np.int64]:
    # numpy's stable sort of 16-bit numbers is a radix sort, and shard rows usually come in the order of their ids.
    narrow = list_nos.astype(np.min_scalar_type(nlist - 1))
    if (np.diff(ids) > 0).all():
        return np.argsort(narrow, kind="stable")
    by_id = np.argsort(ids, kind="stable")
    return by_id[np.argsort(narrow[by_id], kind="stable")]


def _append_rows(writer: ListWriter, run: ListSizes, codes: NDArray[np.uint8], ids: NDArray[np.int64]) -> None:
    """Brings whole lists, sorted by (list, id), into layout."""
    starts = np.append(0, np.cumsum(run.sizes))
    repeats = np.diff(ids) == 0
    repeats[starts[1:-1] - 1] = False
    if repeats.any():
        twin = int(np.flatnonzero(repeats)[0])
        place = f"in list {run.list_nos[np.searchsorted(starts, twin, side='right') - 1]}"
        raise PixdexError(f"id {ids[twin]} stands twice {place}: give every vector of a block its own id")
    buffer = np.concatenate([codes.reshape(-1), ids.astype("<i8", copy=False).view(np.uint8)])
    bounds = np.concatenate([starts * codes.shape[1], codes.size + starts[1:] * ID_BYTES])
    writer.append(run, gather(buffer, bounds, np.arange(2 * len(run.sizes)).reshape(2, -1).T.reshape(-1)))


class ListFile:
    """Reads an `.ivf` file: tail and fences when opened, then any range of lists, checked fence by fence.

    `name` is for messages; `nlist`, `lists`, `code_size`, `fingerprint`, `rows`, `id_range` (bounds of its ids) and
    `seal` say what it holds; `fence_lists` and `fence_offsets`, int64 (fences + 1,), where a range can be cut at no
    cost. Memory: 64 bytes a fence. Every defect raises PixdexError. The file stays the caller's to close; one thread
    at a time.
    """

    def __init__(self, file: RandomAccess, name: str, seal: Seal | None = None) -> None:
        """Reads the last 16 KiB, then what of the fences lies before. `seal`: what the reference to the file says."""
        self.name, self._file = name, file
        self._length = file.seek(0, 2)
        if self._length < len(_HEAD) + _FOOTER.size + _TAIL.size:
            raise self._damaged(f"it has only {self._length} bytes")
        last = self._read(max(0, self._length - _FIRST_READ), self._length)
        offset, length, checksum, version, magic = _TAIL.unpack_from(last, len(last) - _TAIL.size)
        if magic != _MAGIC:
            raise self._damaged("it does not end like a list file")
        if version > FORMAT_VERSION:
            raise PixdexError(f"{name} has list format {version}, this pixdex reads {FORMAT_VERSION}: upgrade pixdex")
        if length < _FOOTER.size or offset + length + _TAIL.size != self._length or version < 1:
            raise self._damaged(f"its tail contradicts its length of {self._length} bytes")
        before = self._read(offset, max(offset, self._length - len(last)))
        footer = (before + last[: -_TAIL.size])[-length:]
        if xxh3_64_intdigest(footer) != checksum:
            raise self._damaged("its footer does not match its checksum")
        self.seal = Seal(self._length, f"{checksum:016x}")
        if seal is not None and seal != self.seal:
            raise self._damaged(f"it is not the file that was referred to ({self.seal} instead of {seal})")
        nlist, first, stop, code_size, rows, nonempty, sizes_offset, _, low, high, text = _FOOTER.unpack_from(footer)
        self.nlist: int = nlist
        self.lists = range(first, stop)
        self.code_size: int = code_size
        self.rows: int = rows
        self.id_range: tuple[int, int] = (low, high)
        self.fingerprint: str = text.rstrip(b"\0").decode("ascii")
        fences = np.frombuffer(footer, _FENCE, offset=_FOOTER.size)
        self.fence_lists: NDArray[np.int64] = np.append(fences["list"], stop).astype(np.int64)
        self.fence_offsets: NDArray[np.int64] = np.append(fences["offset"], sizes_offset).astype(np.int64)
        self._size_indexes: NDArray[np.int64] = np.append(fences["size_index"], nonempty).astype(np.int64)
        self._checksums = {"bodies": fences["bodies"].tolist(), "sizes": fences["sizes"].tolist()}

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
        if self._read(0, len(_HEAD)) != _HEAD:
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
        pairs = raw.view("<u8").reshape(-1, 2).astype(np.int64)
        return ListSizes(pairs[:, 0].copy(), pairs[:, 1].copy())

    def _check(self, what: str, first: int, data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> None:
        view, edges, expected = data.data, bounds.tolist(), self._checksums[what]
        for fence, (start, stop) in enumerate(itertools.pairwise(edges), first):
            if xxh3_64_intdigest(view[start:stop]) != expected[fence]:
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
