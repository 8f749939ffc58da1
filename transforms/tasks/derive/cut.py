"""Cuts the rows of another root into parts that tasks work on: its shards, or groups of its lists."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from transforms.derivation import Counts, RootPart
from transforms.generations import tables
from transforms.index.lists.inputs import ListsReference, MergeInputs
from transforms.index.lists.merge import plan_pieces
from transforms.records import MODALITIES, ROWS_PER_SHARD, row_ids
from transforms.runs.run import Run

if TYPE_CHECKING:
    from transforms.tasks.derive.origin import Origin

GROUP_ROWS: Final = 8192
"""Rows of a group of lists, which are clustered together, unless a list has more."""

_CODES_AT_ONCE: Final = 1 << 20
"""Codes of the lists that one worker counts, on average."""

_STEP_BYTES: Final = 64 << 20
"""Of lists that are read at once, or of one list of each block."""


@dataclass(frozen=True)
class RootShards:
    """All shards of the other root, whose rows one worker counts."""


@dataclass(frozen=True)
class RootLists:
    """Some lists of the other root, `first` to `stop` (exclusive), whose rows one worker counts and groups."""

    first: int
    stop: int


def containers_of(run: Run) -> Iterator[RootShards | RootLists]:
    """Yields what each worker is to count of the other root."""
    origin = _opened(run)
    if origin.derivation.operation == "augment":
        yield RootShards()
        return
    totals, nlist = origin.generation.totals, origin.generation.trained.nlist
    step = max(1, nlist * _CODES_AT_ONCE // max(1, totals.vectors + totals.tombstones))
    yield from (RootLists(first, min(first + step, nlist)) for first in range(0, nlist, step))


def parts_of(run: Run, container: RootShards | RootLists) -> Iterator[RootPart]:
    """Yields the parts of a container that have rows which are alive and not hidden, with how many of each kind.

    Cost: of shards their table, and a bit for each row; of lists these are read, with their codes.

    Raises:
        PixdexError: the root is damaged, or not the one that the run was begun with.
    """
    origin = _opened(run)
    if isinstance(container, RootShards):
        yield from _shards(origin)
    else:
        yield from _groups(origin, range(container.first, container.stop))


def rows_of(origin: "Origin", part: RootPart) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the ids of the rows of a part of lists, int64 `(n,)` ascending, and their kinds (`Origin.kinds`).

    Cost: reads its lists, with their codes.

    Raises:
        PixdexError: a list file is missing or damaged.
    """
    found = [rows for _, rows in _rows(origin, range(part.first_list, part.stop_list))]
    ids = np.sort(np.concatenate([np.empty(0, np.int64), *found]))
    kinds = origin.kinds(ids)
    ids, kinds = ids[kinds >= 0], kinds[kinds >= 0]
    places = np.array_split(np.arange(len(ids)), part.pieces)[part.piece]
    return ids[places], kinds[places]


def counts_of(kinds: NDArray[np.int64]) -> Counts:
    """Returns how many rows are of each kind, of what `Origin.kinds` returned.

    >>> counts_of(np.array([0, 2, -1, 0]))
    (2, 0, 1)
    """
    images, texts, keywords = np.bincount(kinds[kinds >= 0], minlength=len(MODALITIES)).tolist()
    return images, texts, keywords


def _opened(run: Run) -> "Origin":
    from transforms.tasks.derive.origin import open_origin  # noqa: PLC0415 - searches and faiss: few runs need them

    return open_origin(run.request)


def _shards(origin: "Origin") -> Iterator[RootPart]:
    for shard in tables.shards_of(origin.store, origin.generation):
        rows = counts_of(origin.kinds(row_ids(shard.shard, shard.numbered_rows)))
        if sum(rows):
            yield RootPart(rows, shard=shard.shard)


def _groups(origin: "Origin", lists: range) -> Iterator[RootPart]:
    """Groups of lists with about as many rows; a list that has more than a shard may have is several."""
    first, held = lists.start, np.zeros(3, np.int64)
    for step, numbers, kinds in _counted(origin, lists):
        counts = np.zeros((len(step), 3), np.int64)
        np.add.at(counts, (numbers - step.start, kinds), 1)
        for number in np.flatnonzero(counts.any(axis=1)).tolist():
            own, here = counts[number], step.start + number
            if held.any() and held.sum() + own.sum() > GROUP_ROWS:
                yield RootPart(_three(held), first_list=first, stop_list=here)
                first, held = here, np.zeros(3, np.int64)
            if own.sum() > ROWS_PER_SHARD:
                yield from _pieces(kinds[numbers == here], here)
                first = here + 1
            else:
                held += own
    if held.any():
        yield RootPart(_three(held), first_list=first, stop_list=lists.stop)


def _pieces(kinds: NDArray[np.int64], number: int) -> Iterator[RootPart]:
    """Equal parts of a list that has too many rows, of which the kinds are given in the order of ids."""
    pieces = -(-len(kinds) // ROWS_PER_SHARD)
    for piece, some in enumerate(np.array_split(kinds, pieces)):
        yield RootPart(counts_of(some), first_list=number, stop_list=number + 1, piece=piece, pieces=pieces)


def _counted(origin: "Origin", lists: range) -> Iterator[tuple[range, NDArray[np.int64], NDArray[np.int64]]]:
    """Lists, and of each row that may be taken, in the order of ids, its list and its kind."""
    steps: dict[range, list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {}
    for step, numbers, ids in _read(origin, lists):
        if step not in steps and steps:
            yield _joined(origin, *steps.popitem())
        steps.setdefault(step, []).append((numbers, ids))
    if steps:
        yield _joined(origin, *steps.popitem())


def _joined(
    origin: "Origin", step: range, parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> tuple[range, NDArray[np.int64], NDArray[np.int64]]:
    numbers, ids = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(ids)
    kinds = origin.kinds(ids[order])
    return step, numbers[order][kinds >= 0], kinds[kinds >= 0]


def _rows(origin: "Origin", lists: range) -> Iterator[tuple[range, NDArray[np.int64]]]:
    for step, _, ids in _read(origin, lists):
        yield step, ids


def _read(origin: "Origin", lists: range) -> Iterator[tuple[range, NDArray[np.int64], NDArray[np.int64]]]:
    """Lists of each shard index of the root, some at a time, with the list and the id of each row."""
    nlist = origin.generation.trained.nlist
    blocks = tables.blocks_of(origin.store, origin.generation)
    references = [ListsReference(range(nlist), block.lists) for block in blocks]
    with contextlib.closing(MergeInputs(origin.store, references)) as inputs:
        files = inputs.over(lists)
        for step in plan_pieces(files, _STEP_BYTES, lists) if files else ():
            for file in files:
                yield (step, *file.read(step).rows())


def _three(counts: NDArray[np.int64]) -> tuple[int, int, int]:
    images, texts, keywords = counts.tolist()
    return images, texts, keywords
