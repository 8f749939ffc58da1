"""Writes `.ivf` files (see `format`): from entries in any order, or from runs of lists as a merge makes them."""

from collections.abc import Callable, Iterable
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_intdigest

from transforms.errors import PixdexError
from transforms.index.lists.format import (
    FENCE,
    FENCE_BYTES,
    FOOTER,
    FORMAT_VERSION,
    HEAD,
    ID_BYTES,
    MAGIC,
    MAX_FENCES,
    TAIL,
    ListSizes,
    Seal,
    fence_count,
    fence_spacing,
)
from transforms.index.lists.gather import gather
from transforms.records import FileReference
from transforms.storage.store import Store

SORTED_AT_ONCE: Final = 64 << 20
"""Bytes of entries that are brought into the order of the lists at a time; they are held twice meanwhile."""


def write_lists_file(
    store: Store, folder: str, stem: str, write: Callable[[BinaryIO], tuple[int, Seal]]
) -> tuple[int, FileReference]:
    """Puts a new list file below a root, under a name with its checksum. Returns its rows, and where it is.

    Needs room for the file where `store.scratch()` is: in the root, or where this machine keeps temporary files.

    Args:
        store: the root.
        folder, stem: where, and the first part of the name.
        write: writes the file and returns its rows and its seal.
    """
    with store.scratch() as scratch:
        file = scratch / "lists.ivf"
        with file.open("xb") as out:
            rows, seal = write(out)
        return rows, store.upload(file, folder, stem, f"xxh3:{seal.checksum}")


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
        if spacing & (spacing - 1) or fence_count(lists, spacing) > MAX_FENCES:
            raise ValueError(f"spacing {spacing} is no power of two, or makes over {MAX_FENCES} fences of {lists}")
        self._out, self._nlist, self._lists, self._code_size = out, nlist, lists, code_size
        self._fingerprint, self._spacing = fingerprint, spacing
        self._first_fence = lists.start // spacing
        self._hashers = [xxh3_64() for _ in range(fence_count(lists, spacing))]
        self._runs: list[ListSizes] = []
        self._next_list = lists.start
        out.write(HEAD)

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
        fences = np.zeros(len(self._hashers), FENCE)
        fences["list"] = (self._first_fence + np.arange(len(fences))) * self._spacing
        fences["list"][0] = self._lists.start
        firsts = np.searchsorted(sizes[:, 0], fences["list"])
        fences["size_index"] = firsts
        fences["offset"] = len(HEAD) + entry_ends[firsts] * (self._code_size + ID_BYTES)
        fences["bodies"] = [hasher.intdigest() for hasher in self._hashers]
        fences["sizes"] = [xxh3_64_intdigest(part.tobytes()) for part in np.split(sizes, firsts[1:])]
        sizes_offset = len(HEAD) + int(entry_ends[-1]) * (self._code_size + ID_BYTES)
        about = (self._nlist, self._lists.start, self._lists.stop, self._code_size, int(entry_ends[-1]), len(sizes))
        header = FOOTER.pack(*about, sizes_offset, len(fences), *id_range, self._fingerprint.encode("ascii"))
        footer = header + fences.tobytes()
        offset, checksum = sizes_offset + sizes.nbytes, xxh3_64_intdigest(footer)
        self._out.write(sizes.tobytes() + footer + TAIL.pack(offset, len(footer), checksum, FORMAT_VERSION, MAGIC))
        return Seal(offset + len(footer) + TAIL.size, f"{checksum:016x}")


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
        stop = max(first + 1, int(np.searchsorted(ends, done + SORTED_AT_ONCE // entry, side="right")))
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
