"""Keys that name two items: found among the records of a hash bucket, and refused by name."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from transforms.generations.key_tables import KeyBatch, records_of
from transforms.runs.run import Run
from transforms.sources import items, listed

_SUSPECTS = 1000
"""Keys of a bucket that are looked at closely; the first of them is worth a message."""


def find_repeated(run: Run, batches: Sequence[KeyBatch]) -> str | None:
    """Names two items of one key, the first there are, among the records of a bucket; None: there are none.

    Memory: 8 bytes an item beside the records.
    """
    # Half of the hash tells nearly all keys apart, and sorts in a third of the memory.
    halves = np.concatenate([records_of(data)["low"] for _, data in batches] or [np.empty(0, np.uint64)])
    halves.sort()
    suspects = np.unique(halves[1:][halves[1:] == halves[:-1]])[:_SUSPECTS]
    return _repeated(run, batches, suspects) if len(suspects) else None


def _repeated(run: Run, batches: Iterable[KeyBatch], suspects: NDArray[np.uint64]) -> str | None:
    first_two: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for table, data in batches:
        records = records_of(data)
        for high, low, position in records[np.isin(records["low"], suspects)][["high", "low", "position"]].tolist():
            places = first_two.setdefault((high, low), [])
            places[:] = sorted([*places, (table, position)])[:2]
    for _, places in sorted(first_two.items()):
        if len(places) == 2:
            (key, one), (_, other) = (_named(run, *place) for place in places)
            return f"{key} is the key of {one} and of {other}"
    return None


def _named(run: Run, table: str, position: int) -> tuple[str, str]:
    """Returns the key of an item, and what to call the item: a file of rows has a row, a picture its URI."""
    key, uri = items.key_at(run.store, table, position)
    for source in run.request.sources:
        if source.lists_rows and (file := listed.file_of(source, key)) is not None:
            return key, f"row {position + 1} of {file}"
    return key, uri
