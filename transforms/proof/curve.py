"""What searches find of the exact neighbours at several settings, and what that costs: codes and milliseconds."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from transforms.evaluation.curve import Point
from transforms.evaluation.recall import Recall, Ties, by_query, found_shares
from transforms.generations.tuned import QueryKind
from transforms.index.exact import NO_ROW
from transforms.proof.exact import Neighbours
from transforms.proof.request import QuerySet
from transforms.search.hits import Asked, Found
from transforms.search.metadata import shown
from transforms.search.refine import SHORTLIST
from transforms.search.rules import ID, Rules
from transforms.search.searcher import Searcher
from transforms.search.way import have_several_rows, setting_of, show_pictures_once

TIMED: Final = 100
"""Queries that are searched one by one."""

ENOUGH: Final = 0.999
"""A larger nprobe is not tried once so much is found, or hardly more than before: the rest is lost by codes."""

_MORE: Final = 0.001

_ROUNDING: Final = 1e-5
"""Relative: distances of the same rows in batches of another size."""


def shortlists_of(searcher: Searcher) -> tuple[int, ...]:
    """Returns the shortlists of a curve: none, and the usual one where vectors rank better than codes."""
    return (0, SHORTLIST) if searcher.refines else (0,)


def nprobes_of(searcher: Searcher) -> tuple[int, ...]:
    """Returns the numbers of lists of a curve: powers of two, all lists, and what is usual."""
    lists = searcher.generation.trained.nlist
    powers = {1 << power for power in range(lists.bit_length()) if 1 << power < lists}
    return tuple(sorted(powers | {lists, searcher.generation.trained.nprobe}))


def points(
    searcher: Searcher,
    queries: QuerySet,
    exact: Neighbours,
    k: int,
    nprobes: Sequence[int],
    shortlists: Sequence[int],
    *,
    until_enough: bool = True,
) -> Iterator[Point]:
    """Yields what searches find at each setting, cheapest first for each shortlist, until almost all is found.

    Args:
        searcher: the generation that was asked.
        queries: what is asked.
        exact: ids and distances of their exact neighbours, `(q, n)`, more than `k`.
        k: results that are looked at.
        nprobes, shortlists: the settings.
        until_enough: False tries all of them, however much is found.

    Cost: a search of all queries a setting, and one query after the other, up to 100.
    """
    for shortlist in shortlists:
        before = 0.0
        for nprobe in nprobes:
            point = measured(searcher, queries, exact, k, nprobe, shortlist)
            yield point
            found = point.recall.mean.value
            is_past = nprobe > searcher.generation.trained.nprobe and until_enough
            if is_past and (found >= ENOUGH or found < before + _MORE):
                break
            before = found


def measured(
    searcher: Searcher,
    queries: QuerySet,
    exact: Neighbours,
    k: int,
    nprobe: int,
    shortlist: int,
) -> Point:
    """Returns what searches find at one setting; takes what `points` takes."""
    trained = searcher.generation.trained
    usual = nprobe == trained.nprobe and shortlist == (SHORTLIST if searcher.refines else 0)
    # A search that names no number of lists looks into more where those hold too few rows.
    is_default = usual and setting_of(searcher.generation, asked_of(queries, k)) is None
    asked = asked_of(queries, k, None if is_default else nprobe, shortlist)
    return _measured(searcher, queries, exact, k, asked, nprobe, shortlist, is_default=is_default)


def tuned(searcher: Searcher, queries: QuerySet, exact: Neighbours, k: int) -> Point | None:
    """Returns what searches find as they were tuned; None: nothing was promised of such queries."""
    asked = asked_of(queries, k)
    setting = setting_of(searcher.generation, asked)
    if setting is None:
        return None
    how = setting.nprobe, setting.shortlist, setting.margin
    return _measured(searcher, queries, exact, k, asked, *how, is_default=True)


def asked_of(queries: QuerySet, k: int, nprobe: int | None = None, shortlist: int | None = None) -> Asked:
    """Returns what queries ask of a search; None goes as far as is usual."""
    # A row that is the query itself is found, and is no result.
    wanted = k + int((queries.own != NO_ROW).any())
    one = queries.asked
    return Asked(wanted, nprobe, one.modality, shortlist, where=one.where, query_kind=kind_of(queries))


def _by_row(searcher: Searcher, asked: Asked) -> Asked:
    """Asks for rows where pictures are shared: one that is shown once would stand for many of the exact neighbours."""
    if show_pictures_once(searcher.generation) and not have_several_rows(searcher.generation, asked.modality):
        return replace(asked, rules=Rules(group_by=ID))
    return asked


def kind_of(queries: QuerySet) -> QueryKind | None:
    """Returns what queries are; None: rows that are held out."""
    kinds: dict[str, QueryKind] = {kind: kind for kind in get_args(QueryKind)}
    return kinds.get(queries.asked.name)


def shares(searcher: Searcher, queries: QuerySet, exact: Neighbours, k: int, asked: Asked) -> NDArray[np.float64]:
    """Returns the recall@k of each query, float64 `(q,)`, NaN where it has no exact neighbour."""
    asked = _by_row(searcher, asked)
    found = searcher.nearest(queries.vectors, asked)
    return _shares(searcher, queries, exact, k, asked, found)[0]


def single_ms(searcher: Searcher, vectors: NDArray[np.float32], asked: Asked) -> NDArray[np.float64]:
    """Returns the milliseconds of a search of each of some queries alone, float64 `(q,)`."""
    took = []
    for query in vectors:
        began = time.perf_counter()
        searcher.nearest(query[None], asked)
        took.append(time.perf_counter() - began)
    return 1000 * np.array(took)


def _shares(
    searcher: Searcher, queries: QuerySet, exact: Neighbours, k: int, asked: Asked, found: Found
) -> tuple[NDArray[np.float64], float]:
    """The recall of each query, and the share of queries that found their very nearest."""
    ids, own = by_query(found.counts, found.ids, asked.k), queries.own
    if have_several_rows(searcher.generation, asked.modality):
        ids, own, exact = _items(searcher, ids, own, exact)
    ids = _without(ids, own, k)
    ties = _ties(ids, *exact, k)
    nearest = float(np.nanmean(found_shares(ids, exact[0], 1, among=k, ties=ties)))
    return found_shares(ids, exact[0], k, ties=ties), nearest


def _measured(
    searcher: Searcher,
    queries: QuerySet,
    exact: Neighbours,
    k: int,
    asked: Asked,
    nprobe: int,
    shortlist: int,
    margin: float | None = None,
    *,
    is_default: bool,
) -> Point:
    asked = _by_row(searcher, asked)
    searcher.nearest(queries.vectors[:1], asked)  # what is opened once is not timed
    began = time.perf_counter()
    found = searcher.nearest(queries.vectors, asked)
    batch = time.perf_counter() - began
    of_queries, nearest = _shares(searcher, queries, exact, k, asked, found)
    milliseconds = single_ms(searcher, queries.vectors[:TIMED], asked)
    return Point(
        queries_of=queries.asked.name,
        nprobe=nprobe,
        shortlist=shortlist,
        is_default=is_default,
        recall=Recall.of(of_queries),
        nearest=nearest,
        codes=searcher.codes_of(queries.vectors, asked) / len(queries.vectors),
        p50_ms=float(np.percentile(milliseconds, 50)),
        p99_ms=float(np.percentile(milliseconds, 99)),
        batch_ms=1000 * batch / len(queries.vectors),
        margin=margin,
    )


def _items(
    searcher: Searcher, found: NDArray[np.int64], own: NDArray[np.int64], exact: Neighbours
) -> tuple[NDArray[np.int64], NDArray[np.int64], Neighbours]:
    """Numbers of items in the place of rows; of an item its nearest row counts, and of the query's own item none."""
    rows = np.unique(np.concatenate([found.reshape(-1), own, exact[0].reshape(-1)]))
    rows = rows[rows != NO_ROW]
    if show_pictures_once(searcher.generation):
        named = searcher.table_of(rows, ["key", "uri"]).to_pydict()
        names = list(map(shown, named["key"], named["uri"]))
    else:
        names = searcher.table_of(rows, ["key"])["key"].to_pylist()
    numbers = np.unique(names, return_inverse=True)[1].reshape(-1)

    def items_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        places = np.minimum(np.searchsorted(rows, ids), len(rows) - 1)
        return np.where(ids == NO_ROW, NO_ROW, numbers[places])

    items, itself = items_of(exact[0]), items_of(own)
    pairs = np.arange(len(items))[:, None] * (len(rows) + 1) + items
    is_first = np.zeros(items.size, np.bool_)
    is_first[np.unique(pairs, return_index=True)[1]] = True
    kept = is_first.reshape(items.shape) & (items != NO_ROW) & (items != itself[:, None])
    order = np.argsort(~kept, axis=1, kind="stable")
    nearest = np.where(kept, items, NO_ROW), np.where(kept, exact[1], np.float32(np.inf))
    return items_of(found), itself, (np.take_along_axis(nearest[0], order, 1), np.take_along_axis(nearest[1], order, 1))


def _without(ids: NDArray[np.int64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first `k` ids of each query that are not the query itself."""
    itself = (ids == own[:, None]) & (own[:, None] != NO_ROW)
    order = np.argsort(itself, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(np.where(itself, NO_ROW, ids), order, axis=1)


def _ties(ids: NDArray[np.int64], exact: NDArray[np.int64], distances: NDArray[np.float32], k: int) -> Ties:
    """Has rows count that are as near as the k-th, whichever of them a search found."""
    width = int(exact.max(initial=0)) + 1
    places = np.arange(len(ids))[:, None]
    known = np.where(exact == NO_ROW, -1, places * width + exact).reshape(-1)
    order = np.argsort(known, kind="stable")
    asked = np.where((ids == NO_ROW) | (ids >= width), -2, places * width + ids)
    at = np.minimum(np.searchsorted(known[order], asked), len(known) - 1)
    hit = known[order][at] == asked
    found = np.where(hit, distances.reshape(-1)[order][at], np.inf)
    near = distances[:, :k]
    # Of each query in its own measure: one that lies far off says nothing of the others.
    scale = np.max(np.abs(near), axis=1, keepdims=True, initial=0, where=np.isfinite(near))
    scale[scale == 0] = 1
    return Ties(found / scale, distances / scale, "l2", _ROUNDING)
