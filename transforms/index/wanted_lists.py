"""Which lists hold rows that a search may return: the others are not worth a probe.

Pictures and texts of one encoder lie apart, so that the lists nearest to a text may hold texts only; a filter may leave
whole lists without a row, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

_IDS_AT_ONCE = 1 << 20
_LEAST_SHARE = 1 / 8


@dataclass(frozen=True)
class WantedLists:
    """The lists that hold rows that may be returned.

    Attributes:
        weights: float32 `(nlist,)`, what each counts as when it is probed: the wanted rows in it, as a share of the
            rows that a list has on average, from an eighth to 1, and 0 where there is none. So a search that probes
            some lists sees as many wanted rows as it would where there are no others, in lists as long; of rows that
            lie thinly in all lists it probes eight times as many lists at most.
    """

    weights: NDArray[np.float32]

    @classmethod
    def of(cls, wanted: NDArray[np.int64], rows: int) -> "WantedLists":
        """Makes them of how many wanted rows each list holds, int64 `(nlist,)`, and how many rows there are in all."""
        shares = np.clip(wanted * (len(wanted) / max(rows, 1)), _LEAST_SHARE, 1)
        return cls(np.where(wanted > 0, shares, 0).astype(np.float32))

    @property
    def total(self) -> float:
        """What all of them count as."""
        return float(self.weights.sum(dtype=np.float64))

    @property
    def count(self) -> int:
        """How many there are."""
        return int(np.count_nonzero(self.weights))


def wanted_lists(indexes: Sequence[Any], allowed: NDArray[np.uint8]) -> WantedLists:
    """Returns the lists of some indexes that hold rows that are allowed; takes and costs what `wanted_rows` does."""
    return WantedLists.of(*wanted_rows(indexes, allowed))


def wanted_rows(indexes: Sequence[Any], allowed: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """Looks through the ids of all lists; returns how many of each are allowed, int64 `(nlist,)`, and how many ids are.

    Cost: of 65,536 lists and 10,000,000 rows about a third of a second where they are in memory; 8 bytes a row are
    read, of every list.

    Args:
        indexes: IVF indexes over the same quantizer.
        allowed: a bit for each id that may be returned, none for those beyond its end.
    """
    nlist = int(indexes[0].nlist)
    rows, wanted = 0, np.zeros(nlist, np.int64)
    for list_nos, sizes, ids in _ids_of(indexes):
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        wanted[list_nos] += np.add.reduceat(are_set(allowed, ids), starts, dtype=np.int64)
        rows += len(ids)
    return wanted, rows


def lists_of_rows(indexes: Sequence[Any], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the list of each of some rows, int64 `(n,)`; -1: it is in none. Costs what `wanted_rows` does.

    Args:
        indexes: IVF indexes over the same quantizer.
        wanted: ids, ascending, each once.
    """
    found = np.full(len(wanted), -1)
    if not len(wanted):
        return found
    for list_nos, sizes, ids in _ids_of(indexes):
        places = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
        there = wanted[places] == ids
        found[places[there]] = np.repeat(list_nos, sizes)[there]
    return found


def _ids_of(indexes: Sequence[Any]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Numbers and sizes of lists that are not empty, and all their ids, about a million at once."""
    for index in indexes:
        yield from _ids_of_lists(index.invlists, int(index.nlist))


def _ids_of_lists(lists: Any, nlist: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    sizes = np.fromiter((lists.list_size(number) for number in range(nlist)), np.int64, nlist)
    occupied = np.flatnonzero(sizes)
    batch = np.cumsum(sizes[occupied]) // _IDS_AT_ONCE
    for numbers in np.split(occupied, np.flatnonzero(np.diff(batch)) + 1) if len(occupied) else ():
        yield numbers, sizes[numbers], np.concatenate([_ids(lists, int(no), int(sizes[no])) for no in numbers])


def _ids(lists: Any, number: int, size: int) -> NDArray[np.int64]:
    pointer = lists.get_ids(number)
    ids: NDArray[np.int64] = faiss.rev_swig_ptr(pointer, size).copy()
    lists.release_ids(number, pointer)
    return ids


def are_set(bits: NDArray[np.uint8], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tells for which ids a bit is set, bool `(n,)`; there is none for ids beyond their end."""
    inside = (ids >= 0) & (ids < 8 * len(bits))
    known = np.where(inside, ids, 0)
    are_set: NDArray[np.bool_] = inside & ((bits[known >> 3] >> (known & 7).astype(np.uint8)) & 1).astype(np.bool_)
    return are_set
