"""An index too large for a worker, in slices of its lists: each is counted, and scanned for the queries of all parts.

A worker that answers a part then takes what all slices found for it. So no machine copies more of the index than a
slice, unless a query must look further than at first: for rules that leave too little, or among equal rows.
"""

import threading
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.batch.kept import is_kept, keep, kept
from transforms.batch.opened import Opened, opened, threads
from transforms.batch.request import Batch
from transforms.batch.vectors import keep_vectors, vectors_of
from transforms.digests import digest
from transforms.errors import PixdexError
from transforms.index.wanted_lists import WantedLists, wanted_rows
from transforms.search.looks import FirstScan
from transforms.search.open_index import OpenIndex
from transforms.search.ranking import Reach
from transforms.search.searcher import Searcher
from transforms.search.slices import Joined, Slice, open_slice

PARTS_AT_ONCE: Final = 32
"""Parts for which a slice is scanned by one task, which opens it: few enough that several workers share one slice."""

_open: tuple[str, OpenIndex] | None = None
_lock = threading.Lock()


def prepare_part(batch: Batch, number: int) -> None:
    """Makes and keeps the vectors of a part."""
    with threads(batch.threads):
        keep_vectors(batch, opened(batch), number)


def count_slice(batch: Batch, number: int) -> None:
    """Counts how many rows of each list of a slice may be results, and keeps that, unless it is done.

    Cost: of a search for some rows only, the slice is copied and all its ids are read; else none.
    """
    searcher = opened(batch).searcher
    selection = searcher.selection(batch.request.wanted)
    if selection is not None and not is_kept(batch, _counts(number), _digest(batch, number)):
        wanted, rows = wanted_rows(_slice(batch, searcher, number).scanned, selection.bits)
        keep(batch, _counts(number), _digest(batch, number), {"wanted": wanted, "rows": np.array(rows)})


def scan_slice(batch: Batch, number: int, parts: Sequence[int]) -> None:
    """Scans a slice for the queries of some parts, and keeps what it finds, unless that is done.

    Cost: the slice is copied to this machine, once for tasks that follow each other. 12 bytes for each row that is
    found are in memory, of one part at a time, and on storage.
    """
    left = [part for part in parts if not is_kept(batch, _found(number, part), _digest(batch, number, part))]
    if not left:
        return
    with threads(batch.threads):
        open_ = opened(batch)
        index, among = _slice(batch, open_.searcher, number), _among(batch, open_.searcher)
        searcher = open_.searcher.over(Slice(index.merged, index.deltas, among))
        for part in left:
            scan = searcher.first_scan(vectors_of(batch, open_, part).vectors, batch.request.wanted)
            arrays = {} if scan is None else _arrays(scan)
            keep(batch, _found(number, part), _digest(batch, number, part), arrays)


def joined(batch: Batch, open_: Opened, part: int, vectors: NDArray[np.float32]) -> Searcher:
    """Returns the generation with what all slices found for the queries of a part in the place of its index.

    Where not all were scanned, the whole is.

    Raises:
        PixdexError: what was found is damaged.
    """
    names = [(_found(number, part), _digest(batch, number, part)) for number in range(len(batch.plan.slices))]
    if open_.whole is None or not all(is_kept(batch, *name) for name in names):
        return open_.searcher
    together = Joined(open_.whole, _among(batch, open_.searcher))
    queries = open_.searcher.checked(vectors)
    for name in names:
        if found := kept(batch, *name):
            rows, nprobe = found["reach"].tolist()
            together.add(FirstScan(Reach(rows, nprobe), queries, found["distances"], found["ids"]))
    return open_.searcher.over(together)


def _arrays(scan: FirstScan) -> dict[str, NDArray[np.generic]]:
    reach = np.array([scan.reach.rows, scan.reach.nprobe], np.int64)
    return {"reach": reach, "distances": scan.distances, "ids": scan.ids}


def _among(batch: Batch, searcher: Searcher) -> WantedLists | None:
    """The lists with rows that may be results, as all slices counted them; None: all rows may."""
    if searcher.selection(batch.request.wanted) is None:
        return None
    wanted, rows = np.zeros(searcher.generation.trained.nlist, np.int64), 0
    for number in range(len(batch.plan.slices)):
        counted = kept(batch, _counts(number), _digest(batch, number))
        if counted is None:
            raise PixdexError(f"{batch.work.full(_counts(number))} is gone: run the same command again")
        wanted += counted["wanted"]
        rows += int(counted["rows"])
    return WantedLists.of(wanted, rows)


def _slice(batch: Batch, searcher: Searcher, number: int) -> OpenIndex:
    """The lists of a slice, which stay open until another is asked for."""
    global _open  # noqa: PLW0603 - one for a process, which has room for one
    asked = _digest(batch, number)
    with _lock:
        if _open is None or _open[0] != asked:
            _open = None
            one = batch.plan.slices[number]
            lists = range(one.first_list, one.last_list)
            _open = asked, open_slice(searcher.store, searcher.generation, lists)
        return _open[1]


def _counts(number: int) -> str:
    return f"counts/slice-{number:08}"


def _found(number: int, part: int) -> str:
    return f"found/slice-{number:08}/part-{part:08}"


def _digest(batch: Batch, number: int, part: int | None = None) -> str:
    return digest(batch.request, batch.plan.slices[number], -1 if part is None else part)
