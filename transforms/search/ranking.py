"""Ranks the rows that an index returns: one row a key, ties by id, and the search widened until nothing can be missing.

An index returns its nearest rows, dead ones too, so many at a time, and cuts rows of equal score anywhere. A person
wants so many *different* items, all there, in an order that never changes. What lies between is here, and knows neither
faiss nor files.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from transforms.index.adaptive.stop import Stop

NO_ROW: Final = -1
"""What an index returns as the id of a row that it did not find."""


class Results(Protocol):
    """The results of a query so far."""

    def expect(self, ids: NDArray[np.int64], /) -> None:
        """Hears which rows may be offered next, to read what it needs of all of them at once."""
        ...

    def take(self, row: int, /) -> bool:
        """Tells whether a row is a result, and keeps in mind that it is."""
        ...


_KEYS_AT_ONCE: Final = 3
"""Times `k`: rows whose keys are asked for at once."""

_DEEPER = 4
_WIDER = 2


@dataclass(frozen=True)
class Reach:
    """How far one look into the index goes.

    Attributes:
        rows: that it may return.
        nprobe: lists that it probes.
        by_id: of rows of equal distance at the end it returns those with the lowest ids, and not any.
        stop: where each query stops, among more lists than that; None: it probes all of them.
    """

    rows: int
    nprobe: int
    by_id: bool = False
    stop: Stop | None = None


@dataclass(frozen=True)
class Ranked:
    """The best row of every key, nearest first: distances float32 `(n,)`, lower is nearer, and ids int64 `(n,)`."""

    distances: NDArray[np.float32]
    ids: NDArray[np.int64]


Look = Callable[[Reach], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Distances, lower is nearer, and ids, nearest first, padded with `NO_ROW`; rows of equal distance in any order.

Where they are cut from others of the same distance, which of them are there is told by `Reach.by_id`.
"""

KeysOf = Callable[[NDArray[np.int64]], Sequence[Hashable]]

AreAlive = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Tells which rows still count; dead ones are in an index until a merge drops them."""


def over_fetched(rows: int, dead: float) -> int:
    """Returns how many rows a look takes, so that it most likely holds `rows` that live where a share `dead` does not.

    Three standard deviations more than the mean, as if the dead lay anywhere.
    """
    return math.ceil((rows + 3 * math.sqrt(rows * dead)) / (1 - dead)) if dead else rows


@dataclass(frozen=True)
class FirstLooks:
    """What `rank` makes of the first look for each of many queries, where each row is a key.

    Attributes:
        distances, ids: of the rows that were found, `(q, n)`, each query's in order.
        chosen: which of them are its results, bool `(q, n)`.
        are_last: whether no further look is needed, bool `(q,)`.
    """

    distances: NDArray[np.float32]
    ids: NDArray[np.int64]
    chosen: NDArray[np.bool_]
    are_last: NDArray[np.bool_]

    def of(self, place: int) -> Ranked:
        """Returns the results of one query."""
        mine = self.chosen[place]
        return Ranked(self.distances[place, mine], self.ids[place, mine])


def first_looks(
    distances: NDArray[np.float32],
    ids: NDArray[np.int64],
    k: int,
    reach: Reach,
    most: Reach,
    are_alive: AreAlive,
    *,
    is_shortlist: bool,
) -> FirstLooks:
    """Ranks many first looks at once: a sort of each row, where `rank` takes 50 microseconds a query.

    Args:
        distances, ids: `(q, n)`, what the look at `reach` returned for all of them.
        k, most, are_alive, is_shortlist: as of `rank`.
    """
    order = np.lexsort((ids, distances), axis=1)
    distances, ids = np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)
    is_row = ids != NO_ROW
    counted = is_row & are_alive(ids)
    numbered = np.cumsum(counted, axis=1)
    enough = numbered[:, -1] >= k
    cut = np.take_along_axis(distances, np.argmax(numbered >= k, axis=1)[:, None], axis=1)[:, 0]
    used_up = ~is_row.all(axis=1) | (ids.shape[1] < reach.rows) | (reach.rows >= most.rows)
    are_last = enough & (used_up | is_shortlist | reach.by_id | (distances[:, -1] > cut))
    return FirstLooks(distances, ids, counted & (numbered <= k), are_last)


def rank(
    look: Look,
    keys_of: KeysOf,
    k: int,
    first: Reach,
    most: Reach,
    are_alive: AreAlive | None = None,
    *,
    is_shortlist: bool = False,
    furthest: float = math.inf,
    begin: Callable[[], Results] | None = None,
) -> Ranked:
    """Returns the `k` nearest keys, each by its nearest row that is alive; fewer only when no more can be reached.

    Equal distances are ordered by id, also where the `k`-th is cut from the rest. The result is exact among the rows of
    the lists that were probed; of shortlists it is the best of them.

    Args:
        look: searches the index.
        keys_of: the key of each id.
        k: keys wanted, at least 1.
        first: how far the first look goes.
        most: no look goes further; `most.rows` is the number of rows that an index can return, dead ones too.
        are_alive: which rows count, and are asked for their keys; None: all.
        is_shortlist: a look chooses its rows by other distances than those it returns, so that what it leaves out is
            not told by them: as soon as there are `k` keys, they are it.
        furthest: nothing that is further away counts, and nothing is looked for there.
        begin: begins a result, which key after key is offered its nearest row, nearest first; None: it takes all.

    Cost: one look when `first.rows` covers duplicates, ties and the dead, and one by id where rows of equal distance
    are cut, however many there are; each further one takes 4 times the rows when there are too few keys among them, or
    probes twice the lists when those probed are used up.
    """
    reach = Reach(min(first.rows, most.rows), min(first.nprobe, most.nprobe), stop=first.stop)
    found = -1
    while True:
        distances, ids = look(reach)
        is_row = ids != NO_ROW
        # What is left behind the cut is told by all that the index returned: the last of it may be dead.
        counted = is_row if are_alive is None else is_row & are_alive(ids)
        results = None if begin is None else begin()
        ranked, cut, is_over = _choose(distances[counted], ids[counted], keys_of, k, furthest, results)
        # A shortlist may have left out what is nearer than some of it: only one that adds nothing is the last.
        if is_over and not (is_shortlist and len(ranked.ids) > found and reach.rows < most.rows):
            return ranked
        found = len(ranked.ids)
        used_up = not is_row.all() or len(ids) < reach.rows or reach.rows >= most.rows
        if used_up:
            if len(ranked.ids) == k or is_over or (reach.nprobe >= most.nprobe and reach.stop is None):
                return ranked
            reach = replace(reach, nprobe=min(_WIDER * reach.nprobe, most.nprobe), stop=None)
        elif cut is not None:
            if is_shortlist or reach.by_id or distances[-1] > cut:
                return ranked
            reach = replace(reach, by_id=True)
        else:
            reach = deeper(reach, most)


def deeper(reach: Reach, most: Reach) -> Reach:
    """Returns how far a look goes after one that held too few rows."""
    return replace(reach, rows=min(_DEEPER * reach.rows, most.rows))


def _choose(
    distances: NDArray[np.float32],
    ids: NDArray[np.int64],
    keys_of: KeysOf,
    k: int,
    furthest: float,
    results: Results | None,
) -> tuple[Ranked, np.float32 | None, bool]:
    """Returns the nearest row of each of the first `k` keys that are taken.

    And the distance of the `k`-th (None: there is none), and whether one further away was met. Keys are asked for some
    rows at a time: most often the first are enough.
    """
    order = np.lexsort((ids, distances))
    distances, ids = distances[order], ids[order]
    near = int(np.searchsorted(distances, furthest, side="right"))
    is_over = near < len(ids)
    seen: set[Hashable] = set()
    chosen: list[int] = []
    step = _KEYS_AT_ONCE * k
    for start in range(0, near, step):
        some = ids[start : min(start + step, near)]
        if results is not None:
            results.expect(some)
        for place, key in enumerate(keys_of(some), start):
            if key in seen:
                continue
            seen.add(key)
            if results is None or results.take(int(ids[place])):
                chosen.append(place)
            if len(chosen) == k:
                ranked = Ranked(distances[chosen], ids[chosen])
                return ranked, ranked.distances[-1], False
    return Ranked(distances[chosen], ids[chosen]), None, is_over
