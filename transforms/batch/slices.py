"""An index too large for a worker, in slices of its lists: each is counted, and scanned for the queries of all parts.

A worker that answers a part then takes what all slices found for it. So no machine copies more of the index than a
slice, unless a query must look further than they did.
"""

import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.batch.opened import Opened, opened, threads
from transforms.batch.request import Batch
from transforms.batch.vectors import keep_vectors, vectors_checksum, vectors_of
from transforms.digests import digest
from transforms.evaluation.recall import by_query
from transforms.index.adaptive.stop import Stop
from transforms.index.wanted_lists import WantedLists, wanted_rows
from transforms.search.looks import FirstScan
from transforms.search.open_index import OpenIndex
from transforms.search.ranking import NO_ROW, Reach
from transforms.search.searcher import Searcher
from transforms.search.slices import Joined, Slice, Whole, open_slice
from transforms.storage.kept_arrays import is_kept, keep, kept

PARTS_AT_ONCE: Final = 32
"""Parts for which a slice is scanned by one task, which opens it: few enough that several workers share one slice."""

_open: tuple[str, OpenIndex] | None = None
_counted: tuple[str, WantedLists] | None = None
_lock = threading.Lock()


def prepare_part(batch: Batch, number: int) -> None:
    """Makes and keeps the vectors of a part."""
    with threads(batch.threads):
        keep_vectors(batch, opened(batch), number)


def count_slice(batch: Batch, number: int) -> None:
    """Counts how many rows of each list of a slice may be results, and keeps that, unless it is done.

    Cost: of a search for some rows only, the slice is copied and all its ids are read; else none.
    """
    searcher, asked = opened(batch).searcher, batch.request.wanted
    selection = searcher.selection(asked)
    if selection is None or not searcher.scans(asked):
        return
    if not is_kept(batch.work, _counts(batch, number), _digest(batch, number)):
        wanted, rows = wanted_rows(_slice(batch, searcher, number).scanned, selection.bits)
        arrays = {"wanted": wanted, "rows": np.array(rows)}
        keep(batch.work, _counts(batch, number), _digest(batch, number), arrays)


def scan_slice(batch: Batch, number: int, parts: Sequence[int]) -> None:
    """Scans a slice for the queries of some parts, and keeps what it finds, unless that is done.

    Cost: the slice is copied to this machine, once for tasks that follow each other. Of one part at a time, some 64
    bytes for each row that is looked at are in memory; 12 bytes for each that is found are kept.
    """
    searcher = opened(batch).searcher
    if not searcher.scans(batch.request.wanted):
        return
    with threads(batch.threads):
        for part in parts:
            keep_vectors(batch, opened(batch), part)
            name, digest_of = _found(batch, number, part), _digest(batch, number, part)
            if is_kept(batch.work, name, digest_of):
                continue
            index = _slice(batch, searcher, number)
            some = searcher.over(
                Slice(index.merged, index.deltas, index.spread, among=_among(batch, searcher, count_missing=True))
            )
            scan = some.first_scan(vectors_of(batch, opened(batch), part).vectors, batch.request.wanted)
            if scan is not None:
                keep(batch.work, name, digest_of, _arrays(scan))


def joined(batch: Batch, open_: Opened, part: int, vectors: NDArray[np.float32]) -> Searcher:
    """Returns the generation with what all slices found for the queries of a part in the place of its index.

    Where not all were scanned, or not for these very vectors, the whole is.

    Raises:
        PixdexError: what was found is damaged.
    """
    searcher, whole = open_.searcher, open_.whole
    if whole is None or not searcher.scans(batch.request.wanted):
        return searcher
    queries = searcher.checked(vectors)
    try:
        together = Joined(whole, _among(batch, searcher))
        for number in range(len(batch.slices)):
            found = kept(batch.work, _found(batch, number, part), _digest(batch, number, part))
            if found is None:
                return searcher
            together.add(_scan_of(found, queries, whole))
    except (LookupError, ValueError):
        return searcher
    return searcher.over(together)


def _arrays(scan: FirstScan) -> dict[str, NDArray[Any]]:
    """What was found, without places where nothing was."""
    reach, there = np.array([scan.reach.rows, scan.reach.nprobe], np.int64), scan.ids != NO_ROW
    counts = there.sum(axis=1, dtype=np.int64)
    found = {"reach": reach, "counts": counts, "distances": scan.distances[there], "ids": scan.ids[there]}
    stop = scan.reach.stop
    return found if stop is None else found | {"stop": np.array([stop.margin, stop.rows])}


def _scan_of(found: dict[str, NDArray[Any]], queries: NDArray[np.float32], whole: Whole) -> FirstScan:
    rows, nprobe = found["reach"].tolist()
    counts, furthest = found["counts"], float(np.finfo(np.float32).max)
    if len(counts) != len(queries):
        raise ValueError(f"found for {len(counts)} queries, there are {len(queries)}")
    distances = by_query(counts, found["distances"], rows, -furthest if whole.has_similarities else furthest)
    stop = None
    if "stop" in found:
        margin, wanted = found["stop"].tolist()
        stop = Stop(margin, int(wanted))
    return FirstScan(Reach(rows, nprobe, stop=stop), queries, distances, by_query(counts, found["ids"], rows))


def _among(batch: Batch, searcher: Searcher, *, count_missing: bool = False) -> WantedLists | None:
    """The lists with rows that may be results, as all slices counted them; None: all rows may.

    Raises:
        LookupError: one is not counted, and is not to be.
    """
    global _counted  # noqa: PLW0603 - one for a process, which would read it anew for each task
    if searcher.selection(batch.request.wanted) is None:
        return None
    asked = digest(batch.request, batch.slices)
    if _counted is not None and _counted[0] == asked:
        return _counted[1]
    wanted, rows = np.zeros(searcher.generation.trained.nlist, np.int64), 0
    for number in range(len(batch.slices)):
        if count_missing:
            count_slice(batch, number)
        counted = kept(batch.work, _counts(batch, number), _digest(batch, number))
        if counted is None:
            raise LookupError(_counts(batch, number))
        wanted += counted["wanted"]
        rows += int(counted["rows"])
    _counted = asked, WantedLists.of(wanted, rows)
    return _counted[1]


def _slice(batch: Batch, searcher: Searcher, number: int) -> OpenIndex:
    """The lists of a slice, which stay open until another is asked for."""
    global _open  # noqa: PLW0603 - one for a process, which has room for one
    asked = _digest(batch, number)
    with _lock:
        if _open is None or _open[0] != asked:
            _open = None
            one = batch.slices[number]
            lists = range(one.first_list, one.last_list)
            _open = asked, open_slice(searcher.store, searcher.generation, lists)
        return _open[1]


def _counts(batch: Batch, number: int) -> str:
    return f"{batch.slice_folder}/counts/slice-{number:08}"


def _found(batch: Batch, number: int, part: int) -> str:
    """Names what was found for the vectors of a part, of others otherwise."""
    checksum = vectors_checksum(batch, part) or "none"
    return f"{batch.slice_folder}/slice-{number:08}/part-{part:08}-{checksum.rpartition(':')[2][:12]}"


def _digest(batch: Batch, number: int, part: int | None = None) -> str:
    return digest(batch.request, batch.slices[number], None if part is None else batch.plan.parts[part])
