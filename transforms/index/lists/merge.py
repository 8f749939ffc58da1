"""Merges ranges of inverted lists of many `.ivf` files: no machine needs to hold, or see, more than one piece.

The "horizontal slices" of faiss's benchs/distributed_ondisk, as one function of byte ranges: a piece is one contiguous
range of every input and one contiguous range of the output. `plan_pieces` cuts the lists, `merge_range` merges one
piece into any file, `merge_segment` several into one `.ivf`. Pieces may be merged in any order, anywhere, any number
of times: the bytes are the same.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64

from transforms.errors import PixdexError
from transforms.index.lists.format import FENCE_BYTES, ID_BYTES, ListSizes, Seal, fence_spacing, segment_starts
from transforms.index.lists.gather import gather
from transforms.index.lists.reader import ListFile
from transforms.index.lists.writer import ListWriter

STEP_BYTES: Final = 48 << 20
"""Read at once. Two steps are in memory: while one is written, the next is read."""

PIECE_BYTES: Final = 512 << 20
"""Merged into one file by one task. Smaller ones spread over more workers; each ends by waiting for the disk."""

FILE_BYTES: Final = 1 << 30
"""About the size of a segment, and of a file of the tier."""

FAN_IN: Final = 1000
"""Files that one merge has open; a worker raises the limit of its process where that is lower."""

READ_BYTES: Final = 1 << 20
"""Below this, an object store spends its time on requests."""


class StepBuffers:
    """Memory that a worker keeps from piece to piece: touching fresh pages costs as much again as reading into them.

    Attributes:
        readers: threads that read a step. One is fastest from a filesystem, whose reads are copies of memory: four took
            a third longer on two cores. An object store answers several requests at once.
    """

    def __init__(self, readers: int = 1) -> None:
        """Takes no memory yet; grows to the two largest steps asked for."""
        self.readers = readers
        self._pages = [np.empty(0, np.uint8), np.empty(0, np.uint8)]

    def view(self, step: int, length: int) -> NDArray[np.uint8]:
        """uint8 (length,), contents undefined; it overwrites what the last step but one held."""
        if length > len(self._pages[step % 2]):
            self._pages[step % 2] = np.empty(0, np.uint8)
            self._pages[step % 2] = np.empty(length, np.uint8)
        return self._pages[step % 2][:length]


@dataclass(frozen=True)
class MergedRange:
    """What `merge_range` wrote: sizes of the non-empty merged lists, bytes, and their xxh3_64 (16 hex digits)."""

    stored: ListSizes
    bytes: int
    checksum: str


@dataclass(frozen=True)
class MergedSegment:
    """What `merge_segment` wrote: how many entries, and the seal of the file."""

    rows: int
    seal: Seal


def plan_pieces(inputs: Sequence[ListFile], piece_bytes: int, lists: range | None = None) -> list[range]:
    """Cuts `lists` (default: all) into consecutive ranges of about `piece_bytes` of output each, at common fences.

    Needs the fences only, no sizes. Every list is in exactly one piece. A piece is larger than asked for by less than
    one interval between common fences (about 64 to 128 KiB an input, or one list where that is larger). Smaller pieces
    spread over more workers. The same function cuts a piece into the steps in which it is read: smaller ones take less
    memory; below 1 MiB an input, object stores spend their time on requests.
    """
    lists = range(inputs[0].nlist) if lists is None else lists
    fences = [_between(source.fence_lists, lists) for source in inputs]
    cuts = np.concatenate([[lists.start], np.unique(np.concatenate(fences)), [lists.stop]])
    common = np.ones(len(cuts), bool)
    for source, fenced in zip(inputs, fences, strict=True):
        inside = (cuts > source.lists.start) & (cuts < source.lists.stop)
        common &= ~inside | np.isin(cuts, fenced, assume_unique=True)
    common[[0, -1]] = True
    cuts = cuts[common]
    before = np.zeros(len(cuts), np.int64)
    for source in inputs:
        fence = np.searchsorted(source.fence_lists, cuts, side="right") - 1
        before += source.fence_offsets[np.clip(fence, 0, None)] - source.fence_offsets[0]
    chosen = [0]
    while chosen[-1] < len(cuts) - 1:
        full = int(np.searchsorted(before, before[chosen[-1]] + piece_bytes, side="right")) - 1
        chosen.append(min(max(full, chosen[-1] + 1), len(cuts) - 1))
    edges = cuts[chosen].tolist()
    return [range(start, stop) for start, stop in itertools.pairwise(edges)]


def merged_sizes(inputs: Sequence[ListFile]) -> NDArray[np.int64]:
    """Size of every merged list, int64 (nlist,). Reads the sizes of one input at a time."""
    inputs = mergeable(inputs)
    total = np.zeros(inputs[0].nlist, np.int64)
    for source in inputs:
        stored = source.sizes()
        total[stored.list_nos] += stored.sizes
    return total


def merge_range(
    inputs: Sequence[ListFile],
    lists: range,
    out: BinaryIO,
    *,
    fingerprint: str | None = None,
    step_bytes: int = STEP_BYTES,
    buffers: StepBuffers | None = None,
) -> MergedRange:
    """Writes the merged bodies of `lists` to `out` where it stands: list by list codes, then ids, ids ascending.

    Inputs in any order; what must fit together is said at `mergeable`. Every fence read is checked. Memory: two steps
    (`buffers`; a step is at least one list), plus about 100 bytes for each non-empty list of each input in a step, plus
    2 MiB or the longest list of one input. Smaller steps than 32 MiB cost time: each reads from every input.
    """
    hasher, written = xxh3_64(), 0
    stored: list[ListSizes] = []
    for step, chunks in _steps(mergeable(inputs, fingerprint), lists, step_bytes, buffers or StepBuffers()):
        stored.append(step)
        for chunk in chunks:
            out.write(chunk)
            hasher.update(chunk)
            written += len(chunk)
    list_nos = np.concatenate([np.empty(0, np.int64), *(step.list_nos for step in stored)])
    sizes = np.concatenate([np.empty(0, np.int64), *(step.sizes for step in stored)])
    return MergedRange(ListSizes(list_nos, sizes), written, hasher.hexdigest())


def merge_segment(
    inputs: Sequence[ListFile],
    lists: range,
    out: BinaryIO,
    *,
    fingerprint: str | None = None,
    step_bytes: int = STEP_BYTES,
    fence_bytes: int = FENCE_BYTES,
    buffers: StepBuffers | None = None,
) -> MergedSegment:
    """Writes the merged `lists` as one `.ivf` file, the same bytes as `write_lists` would make of all their entries.

    Same bytes whatever `step_bytes`, order and division of the inputs. Memory: two steps, see `merge_range`.
    """
    inputs = mergeable(inputs, fingerprint)
    first = inputs[0]
    rows = sum(source.sizes(lists).rows for source in inputs)
    writer = ListWriter(
        out,
        nlist=first.nlist,
        lists=lists,
        code_size=first.code_size,
        fingerprint=first.fingerprint,
        spacing=fence_spacing(lists, rows * (first.code_size + ID_BYTES), fence_bytes),
    )
    for step, chunks in _steps(inputs, lists, step_bytes, buffers or StepBuffers()):
        writer.append(step, chunks)
    # Of all the inputs say, not of these lists alone: then bounds are the same however the merge is divided.
    ranges = [source.id_range for source in inputs if source.id_range[0] <= source.id_range[1]]
    ids = (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (0, -1)
    return MergedSegment(rows, writer.finish(ids))


def mergeable(inputs: Sequence[ListFile], fingerprint: str | None = None) -> list[ListFile]:
    """The inputs in ascending order of their ids, or PixdexError with the name of the one that does not fit.

    All are of one trained index (`fingerprint`; default: the first input's), with one code size and number of lists.
    Where two have lists in common, all ids of one are below all ids of the other: then ids ascend in merged lists
    without a sort.
    """
    if not inputs:
        raise ValueError("a merge needs at least one input")
    first = inputs[0]
    expected = first.fingerprint if fingerprint is None else fingerprint
    for source in inputs:
        if source.fingerprint != expected:
            built = f"was built from trained index {_short(source.fingerprint)}, this merge uses {_short(expected)}"
            raise PixdexError(f"shard index {source.name} {built}: rerun 'pixdex add' for it")
        if (source.code_size, source.nlist) != (first.code_size, first.nlist):
            has = f"has {source.nlist} lists of {source.code_size}-byte codes"
            wanted = f"{first.name} {first.nlist} of {first.code_size}"
            raise PixdexError(
                f"shard index {source.name} {has}, {wanted}: rerun 'pixdex add' for the one that is wrong"
            )
    # Only neighbours among files over the same lists can touch; segments of one merge have their lists apart.
    ordered = sorted(inputs, key=lambda source: (source.id_range, source.lists.start, source.name))
    newest: dict[range, ListFile] = {}
    for source in (source for source in ordered if source.rows):
        for other in newest.values():
            apart = source.lists.start >= other.lists.stop or source.lists.stop <= other.lists.start
            if not apart and source.id_range[0] <= other.id_range[1]:
                both = f"ids {source.id_range[0]}..{source.id_range[1]} and {other.id_range[0]}..{other.id_range[1]}"
                names = f"shard indexes {source.name} and {other.name}"
                raise PixdexError(f"{names} overlap ({both}): merge each block once, in one version")
        newest[source.lists] = source
    return ordered


def _short(fingerprint: str) -> str:
    return f"{fingerprint[:12]}…" if len(fingerprint) > 12 else fingerprint


def _between(fences: NDArray[np.int64], lists: range) -> NDArray[np.int64]:
    return fences[np.searchsorted(fences, lists.start, side="right") : np.searchsorted(fences, lists.stop)]


def _steps(
    inputs: Sequence[ListFile], lists: range, step_bytes: int, buffers: StepBuffers
) -> Iterator[tuple[ListSizes, Iterator[memoryview]]]:
    """Merged sizes and chunks of merged bodies, step by step; chunks live until the step after the next is asked for.

    While the caller writes a step, threads read the next: the reads, the checksums, the copies and the writes of
    `merge_range` all run outside Python's lock.
    """
    steps = plan_pieces(inputs, step_bytes, lists) if lists else []
    with ThreadPoolExecutor(buffers.readers, "merge-read") as pool:
        coming = _read(pool, inputs, steps[0], buffers.view(0, _span(inputs, steps[0]))) if steps else None
        for number, step in enumerate(steps, start=1):
            assert coming is not None
            pages, reads = coming
            parts = [read.result() for read in reads]
            if number < len(steps):
                following = steps[number]
                coming = _read(pool, inputs, following, buffers.view(number, _span(inputs, following)))
            yield _merge(inputs, step, pages, parts)


def _span(inputs: Sequence[ListFile], lists: range) -> int:
    return sum(source.span(lists) for source in inputs)


_Reads = tuple[NDArray[np.uint8], "list[Future[tuple[ListSizes, int]]]"]


def _read(pool: ThreadPoolExecutor, inputs: Sequence[ListFile], lists: range, pages: NDArray[np.uint8]) -> _Reads:
    """Begins to read a step: one input after the other into `pages`."""
    ends = np.cumsum([source.span(lists) for source in inputs]).tolist()
    starts = [0, *ends[:-1]]
    places = zip(inputs, starts, ends, strict=True)
    return pages, [pool.submit(source.read_into, lists, pages[start:end]) for source, start, end in places]


def _merge(
    inputs: Sequence[ListFile], lists: range, pages: NDArray[np.uint8], parts: Sequence[tuple[ListSizes, int]]
) -> tuple[ListSizes, Iterator[memoryview]]:
    """Orders a step that was read: merged sizes, and chunks of the merged bodies, which live in `pages`."""
    bounds: list[NDArray[np.int64]] = []
    codes_at: list[NDArray[np.int64]] = []
    base = segments = 0
    for source, (stored, start) in zip(inputs, parts, strict=True):
        # Bounds must tile the buffer: one segment before the wanted lists, codes and ids of each list, one after them.
        inner = segment_starts(stored.sizes, source.code_size) + base + start
        end = base + start + stored.rows * (source.code_size + ID_BYTES)
        bounds.append(np.concatenate([[base], inner, [end]]))
        codes_at.append(segments + 1 + 2 * np.arange(len(stored.sizes)))
        segments, base = segments + len(inner) + 2, base + source.span(lists)
    bounds.append(np.array([base], np.int64))
    list_nos = np.concatenate([stored.list_nos for stored, _ in parts])
    sizes = np.concatenate([stored.sizes for stored, _ in parts])
    codes = np.concatenate(codes_at)
    # Stable: within a list codes come before ids, and each by input. 16-bit keys make it a radix sort.
    keys = ((list_nos - lists.start) * 2).astype(np.min_scalar_type(2 * len(lists)))
    order = np.argsort(np.concatenate([keys, keys + 1]), kind="stable")
    counts = np.bincount(list_nos - lists.start, weights=sizes, minlength=len(lists)).astype(np.int64)
    occupied = np.flatnonzero(counts)
    segment_order = np.concatenate([codes, codes + 1])[order]
    return ListSizes(occupied + lists.start, counts[occupied]), gather(pages, np.concatenate(bounds), segment_order)
