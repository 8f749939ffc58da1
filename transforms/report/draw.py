"""Draws rows of a generation by a seed: single ones, or runs of rows that stand together, which cost few reads."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.generations import tables
from transforms.records import ROW_BITS, Modality
from transforms.search.searcher import Searcher
from transforms.search.selection import rows_of

_RUNS: Final = 8
_GUESSED: Final = 4
"""So many times as many rows are drawn as are wanted, since some are dead."""


def places_of(searcher: Searcher, kind: Modality) -> NDArray[np.int64]:
    """Returns where the rows of a kind stand, int64 `(n, 2)`: in each shard with any, the first id and how many.

    Cost: reads the table of shards; 20 microseconds and 16 bytes a shard.
    """
    shards: list[dict[str, Any]] = tables.shard_rows(searcher.store, searcher.generation)
    found = []
    for shard in shards:
        if shard["path"] or shard.get("ready"):
            rows = rows_of(shard, kind)
            if rows.stop > rows.start:
                found.append(((shard["shard"] << ROW_BITS) + rows.start, rows.stop - rows.start))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def single(searcher: Searcher, places: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Returns so many ids at most, drawn at random and in that order; none is dead or hidden."""
    if not len(places):
        return np.empty(0, np.int64)
    ends = np.cumsum(places[:, 1])
    rng = np.random.default_rng(seed)
    drawn = rng.choice(int(ends[-1]), min(_GUESSED * count, int(ends[-1])), replace=False, shuffle=True)
    shards = np.searchsorted(ends, drawn, side="right")
    ids = places[shards, 0] + drawn - (ends[shards] - places[shards, 1])
    return searcher.known(ids.astype(np.int64))[:count]


def runs(searcher: Searcher, places: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Returns about so many ids, of eight runs of rows at most that stand together; none is dead or hidden."""
    if not len(places):
        return np.empty(0, np.int64)
    ends, each = np.cumsum(places[:, 1]), -(-count // _RUNS)
    parts = []
    for start in np.random.default_rng(seed).integers(0, int(ends[-1]), _RUNS).tolist():
        shard = int(np.searchsorted(ends, start, side="right"))
        first, rows = places[shard].tolist()
        begin = min(start - (int(ends[shard]) - rows), max(0, rows - each))
        parts.append(np.arange(first + begin, first + min(rows, begin + each), dtype=np.int64))
    return searcher.known(np.unique(np.concatenate(parts)))
