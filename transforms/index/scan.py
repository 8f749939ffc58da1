"""Searches an opened faiss index: how many lists are probed, and how hard a coarse quantizer looks for them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.adaptive.spread import Spread
from transforms.index.adaptive.stop import CANDIDATES, Stop, probed_lists
from transforms.index.kept_threads import each_alone
from transforms.index.resident import read_ahead
from transforms.index.vector_transforms import of_queries
from transforms.index.wanted_lists import WantedLists
from transforms.records import Metric

_Found = tuple[NDArray[np.float32], NDArray[np.int64]]
_LEAST_EFFORT = 128
_LISTS_AT_ONCE = 1 << 21
"""Lists that a thread keeps in the order in which some queries probe them: 12 bytes each, 24 MiB."""
_MORE_LISTS, _LEAST_MORE = 1.5, 16
"""How many more of all lists are ranked, for some to be among them, than their share says."""
_WANTED_BYTES = 4
"""Times the memory that ranking takes where some lists count only, and their shares are summed."""
_LEAST_QUERIES, _MANY_QUERIES, _PARTS = 16, 1024, 16
"""Few queries are cut into parts for threads to share, of many so many are searched together: faiss ranks the lists of
1,000 queries and more in a fifth of the time that it takes for as many in small parts."""
_LISTS_BY_THEMSELVES = 256
"""Lists that are scanned each by itself at once."""
_ROUNDING = 1e-3
"""By so much may a sum of shares of lists miss a whole number."""


def graph_effort(nprobe: int) -> int:
    """Returns the `efSearch` with which an HNSW coarse quantizer is asked for so many lists.

    A graph that looks at no more lists than it returns, as faiss has it look from 16 on, misses some that are near.
    """
    return max(_LEAST_EFFORT, 2 * nprobe)


def search_lists(
    index: Any,  # faiss is untyped
    queries: NDArray[np.float32],
    rows: int,
    nprobe: int,
    allowed: NDArray[np.uint8] | None = None,
    deltas: Any | None = None,
    among: WantedLists | None = None,
    *,
    by_id: bool = False,
    adaptive: "Adaptive | None" = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Searches the `nprobe` nearest lists of each query; all of them, without exception, when there are no more.

    Args:
        index: an index with inverted lists, maybe behind vector transforms. Threads may share it.
        queries: float32 `(q, d)`.
        rows: results a query.
        nprobe: lists probed, or, of those of `among`, what they count as.
        allowed: a bit for each id that may be found, none for those beyond its end; None: every id may.
        deltas: another index with the same quantizer, behind the same transforms, whose lists are scanned too.
        among: the lists that are ranked, and what each counts as; None: every one, as one.
        by_id: of rows with equal distances those with the lowest ids are found, and not any. Each list is then scanned
            by itself, which takes somewhat longer, and up to 256 times the memory of what is returned.
        adaptive: where each query stops among twice as many lists; None: it probes `nprobe`.

    Returns:
        Distances float32 and ids int64, both `(q, rows)`: id -1 where there is none. In the order that faiss gives
        them; with deltas and `by_id` in that of distance and id, among those that are found.

    Cost: less than `index.search` where the lists are in memory, which would read them ahead first.
    """
    # Whatever faiss keeps a pointer to stays bound to a name until the search is over.
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)
    scanned = [inner] if deltas is None else [inner, deltas]
    scan = _scan_by_id if by_id else _scan
    distances = np.empty((len(queries), rows), np.float32)
    ids = np.empty((len(queries), rows), np.int64)

    def search(part: slice) -> None:
        known = of_queries(index, queries[part])
        distances[part], ids[part] = _search_given_lists(
            scanned, known, rows, _looked_at(nprobe, inner.nlist, adaptive), selector, among, scan, adaptive
        )

    at_once = _at_once(len(queries), _looked_at(nprobe, inner.nlist, adaptive), inner.nlist, among)
    parts = [slice(start, start + at_once) for start in range(0, len(queries), at_once)]
    threads = min(faiss.omp_get_max_threads(), len(parts))
    if threads <= 1:
        for part in parts:
            search(part)
    else:
        # Each thread takes its queries through all steps: none waits for another between two of them.
        list(each_alone(threads).map(search, parts))
    return distances, ids


def probed(
    index: Any,
    queries: NDArray[np.float32],
    nprobe: int,
    deltas: Any | None,
    among: WantedLists | None,
    adaptive: "Adaptive | None" = None,
) -> tuple[int, int]:
    """Returns how many lists `search_lists` probes for some queries, and how many codes they hold, of all together."""
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    asked = of_queries(index, queries)
    lists = _ranked_lists(inner, asked, _looked_at(nprobe, inner.nlist, adaptive), among, adaptive).lists
    times = np.bincount(lists[lists >= 0], minlength=inner.nlist)
    scanned = [inner] if deltas is None else [inner, deltas]
    there = np.flatnonzero(times).tolist()
    return int(times.sum()), sum(
        int(times[number]) * one.invlists.list_size(number) for one in scanned for number in there
    )


def _at_once(queries: int, nprobe: int, nlist: int, among: WantedLists | None) -> int:
    """Queries that are searched together: the same however many threads there are, so that products are the same."""
    width = nprobe if among is None else _WANTED_BYTES * _ranked(nprobe, nlist, among)
    parts = min(_PARTS, queries // _LEAST_QUERIES)
    if queries >= _PARTS // 4 * _MANY_QUERIES:
        parts = queries // _MANY_QUERIES
    return max(1, min(_LISTS_AT_ONCE // width, -(-queries // max(1, parts))))


def _search_given_lists(
    scanned: Sequence[Any],
    known: NDArray[np.float32],
    rows: int,
    nprobe: int,
    selector: Any,
    among: WantedLists | None,
    scan: "_Scan",
    adaptive: "Adaptive | None",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Ranks the lists once, and scans those of every index; `known` are queries behind the transforms."""
    asked = np.ascontiguousarray(known)
    ranked = _ranked_lists(scanned[0], asked, nprobe, among, adaptive)
    read_ahead(scanned[0].invlists, ranked.lists)  # deltas were read when they were opened
    most = [rows, *(min(rows, index.ntotal) for index in scanned[1:])]
    hits = [scan(index, asked, k, ranked, selector) for index, k in zip(scanned, most, strict=True)]
    similar = faiss.is_similarity_metric(scanned[0].metric_type)
    return hits[0] if len(hits) == 1 else nearest(hits, rows, similar=similar)


@dataclass(frozen=True)
class Adaptive:
    """Has each query stop where it need not look further.

    Attributes:
        spread: of the lists.
        stop: where.
    """

    spread: Spread
    stop: Stop


def _looked_at(nprobe: int, nlist: int, adaptive: Adaptive | None) -> int:
    """How many lists are ranked of which a query probes all, or those before it stops."""
    return min(nprobe if adaptive is None else CANDIDATES * nprobe, nlist)


class _Lists(NamedTuple):
    """Lists that queries probe, and how near each is: int64 and float32 `(q, n)`; -1 is none."""

    nearness: NDArray[np.float32]
    lists: NDArray[np.int64]


def _ranked_lists(
    inner: Any, asked: NDArray[np.float32], nprobe: int, among: WantedLists | None, adaptive: Adaptive | None
) -> _Lists:
    """The lists that queries behind the transforms probe."""
    ranked = _Lists(
        *(_nearest_lists(inner, asked, nprobe) if among is None else _nearest_wanted(inner, asked, nprobe, among))
    )
    if adaptive is None:
        return ranked
    metric: Metric = "ip" if faiss.is_similarity_metric(inner.metric_type) else "l2"
    return _only(ranked, probed_lists(adaptive.spread, metric, asked, ranked.lists, ranked.nearness, adaptive.stop))


def _only(ranked: _Lists, is_probed: NDArray[np.bool_]) -> _Lists:
    """Some of the lists that were ranked, in their order; where queries probe fewer than others, -1 fills up."""
    nearness, lists = ranked
    if len(lists) == 1 and len(mine := np.flatnonzero(is_probed[0])):  # no other query probes more
        return _Lists(nearness[0, mine][None], lists[0, mine][None])
    order = np.argsort(~is_probed, axis=1, kind="stable")[:, : max(1, int(is_probed.sum(axis=1).max(initial=0)))]
    lists = np.take_along_axis(np.where(is_probed, lists, -1), order, axis=1)
    nearness = np.take_along_axis(nearness, order, axis=1)
    # Fast scans take their steps from all of them, also where there is no list.
    nearness = np.where(lists >= 0, nearness, nearness[:, :1])
    return _Lists(np.ascontiguousarray(nearness), np.ascontiguousarray(lists))


def _nearest_lists(
    inner: Any, asked: NDArray[np.float32], nprobe: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    quantizer = faiss.downcast_index(inner.quantizer)
    nearest: tuple[NDArray[np.float32], NDArray[np.int64]]
    if not isinstance(quantizer, faiss.IndexHNSW):
        nearest = quantizer.search(asked, nprobe)
    elif nprobe >= inner.nlist:  # some nodes of a graph cannot be reached, so its centroids are asked instead
        nearest = quantizer.storage.search(asked, nprobe)
    else:
        effort = faiss.SearchParametersHNSW(efSearch=graph_effort(nprobe))
        nearest = quantizer.search(asked, nprobe, params=effort)
    return nearest


def _nearest_wanted(
    inner: Any, asked: NDArray[np.float32], nprobe: float, among: WantedLists
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The nearest of some lists that count as `nprobe`; where queries need fewer than others, -1 fills up.

    Most often they are among a few more of all lists, and else they are compared alone.
    """
    quantizer = faiss.downcast_index(inner.quantizer)
    centroids = quantizer.storage if isinstance(quantizer, faiss.IndexHNSW) else quantizer
    selector = faiss.IDSelectorBitmap(np.packbits(among.weights > 0, bitorder="little"))
    only = faiss.SearchParameters(sel=selector)
    if nprobe >= among.total:
        every: tuple[NDArray[np.float32], NDArray[np.int64]] = centroids.search(asked, among.count, params=only)
        return every
    goal = nprobe - _ROUNDING
    wanted = _ranked(nprobe, inner.nlist, among)
    nearness, lists = _nearest_lists(inner, asked, wanted)
    while (short := np.flatnonzero(_counted(lists, among).sum(axis=1) < goal)).size:
        wanted = min(among.count, 4 * wanted)
        near, nearest = centroids.search(np.ascontiguousarray(asked[short]), wanted, params=only)
        beyond = max(0, wanted - lists.shape[1])
        nearness = np.pad(nearness, ((0, 0), (0, beyond)))
        lists = np.pad(lists, ((0, 0), (0, beyond)), constant_values=-1)
        lists[short] = -1
        nearness[short, :wanted], lists[short, :wanted] = near, nearest
    del only, selector
    weights = _counted(lists, among)
    return _only(_Lists(nearness, lists), (weights > 0) & (np.cumsum(weights, axis=1) - weights < goal))


def _ranked(nprobe: float, nlist: int, among: WantedLists) -> int:
    """How many of all lists are ranked at first, for enough of the wanted ones to be among them."""
    return min(nlist, math.ceil(_MORE_LISTS * nprobe * nlist / among.total) + _LEAST_MORE)


def _counted(lists: NDArray[np.int64], among: WantedLists) -> NDArray[np.float64]:
    """What each of some lists counts as; -1 is none."""
    return np.where(lists >= 0, among.weights[lists], 0).astype(np.float64)


_Scan = Callable[[Any, NDArray[np.float32], int, _Lists, Any], _Found]


def _scan(index: Any, asked: NDArray[np.float32], rows: int, probed: _Lists, selector: Any) -> _Found:
    """The nearest rows of the lists that each query probes, of those that a selector lets through; None: of all."""
    parameters = faiss.SearchParametersIVF(nprobe=probed.lists.shape[1])
    if selector is not None:
        parameters.sel = selector
    distances = np.empty((len(asked), rows), np.float32)
    ids = np.empty((len(asked), rows), np.int64)
    # The wrapper of faiss 1.15.1 takes no parameters here, so that the function behind it is called.
    arrays = [faiss.swig_ptr(array) for array in (probed.lists, probed.nearness, distances, ids)]
    index.search_preassigned_c(len(asked), faiss.swig_ptr(asked), rows, *arrays, False, parameters)
    del parameters
    return distances, ids


def _scan_by_id(index: Any, asked: NDArray[np.float32], rows: int, probed: _Lists, selector: Any) -> _Found:
    """The same, with the lowest ids of rows with equal distances."""
    distances, ids = _scan(index, asked, rows, probed, selector)
    for place in np.flatnonzero((ids >= 0).all(axis=1)).tolist():
        there = probed.lists[place] >= 0
        near, lists = probed.nearness[place, there, None], probed.lists[place, there, None]
        each = _Lists(np.ascontiguousarray(near), np.ascontiguousarray(lists))
        found = distances[place : place + 1], ids[place : place + 1]
        distances[place], ids[place] = _with_lowest_ids(index, asked[place], found, each, selector)
    return distances, ids


def _with_lowest_ids(index: Any, query: NDArray[np.float32], found: _Found, each: _Lists, selector: Any) -> _Found:
    """Chooses anew among rows that are as near as the last that was found, `(rows,)`; `each` has a list a row.

    What is nearer is all found, and is left out of another scan, of each list by itself. Within a list ids ascend, and
    a row takes no place from one that is as near: as nothing is nearer, what that scan keeps of a list are the first.
    """
    rows, (distances, ids) = found[0].shape[1], found
    similar = faiss.is_similarity_metric(index.metric_type)
    cut = distances.min() if similar else distances.max()
    nearer = distances > cut if similar else distances < cut
    others = faiss.IDSelectorNot(faiss.IDSelectorBatch(ids[nearer]))
    if selector is not None:
        others = faiss.IDSelectorAnd(others, selector)
    hits = distances[nearer][None], ids[nearer][None]
    for start in range(0, len(each.lists), _LISTS_BY_THEMSELVES):
        part = slice(start, start + _LISTS_BY_THEMSELVES)
        some = _Lists(each.nearness[part], each.lists[part])
        near, of_lists = _scan(index, np.tile(query, (len(some.lists), 1)), rows, some, others)
        hits = nearest([hits, (near.reshape(1, -1), of_lists.reshape(1, -1))], rows, similar=similar)
    return hits[0][0], hits[1][0]


def nearest(
    hits: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], rows: int, *, similar: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns the nearest of what several indexes found, in order of distance and id; where there is no row, -1, last.

    `similar`: the largest distances are the nearest.
    """
    distances = np.concatenate([near for near, _ in hits], axis=1)
    ids = np.concatenate([rows_near for _, rows_near in hits], axis=1)
    order = np.lexsort((ids, -distances if similar else distances, ids < 0), axis=1)[:, :rows]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)
