"""Which ids a generation has: what an index returns is held against them, for nobody checked its lists.

A search maps the lists and reads no checksum of them (`--check` does). A wrong byte in a list is a wrong code, which
moves a score by what one code can, or a wrong id, which mostly is of no row, or of one that was found already.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from transforms.generations import tables
from transforms.records import split_ids
from transforms.search.ranking import NO_ROW


@dataclass(frozen=True)
class KnownIds:
    """Which ids there are: those of rows 0 to `rows` of each shard, int64 `(n,)` both, shards ascending."""

    shards: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, table: Mapping[int, Mapping[str, Any]]) -> Self:
        """Takes the rows of a table of shards by their numbers; of ready embeddings, rejected rows have an id, too."""
        numbers = sorted(table)
        return cls(np.array(numbers, np.int64), np.array([_numbered(table[one]) for one in numbers], np.int64))

    def strange(self, ids: NDArray[np.int64], scores: NDArray[np.float32]) -> str | None:
        """Says what cannot be among ids and scores `(q, k)` that an index returned; None: all of it can.

        Scores of huge vectors that are not normalised can overflow without any damage; what is said allows for it.
        """
        found = ids != NO_ROW
        numbers, rows = split_ids(ids)
        places = np.minimum(np.searchsorted(self.shards, numbers), max(0, len(self.shards) - 1))
        known = np.zeros(ids.shape, np.bool_)
        if len(self.shards):
            known = (self.shards[places] == numbers) & (rows < self.rows[places])
        if (unknown := found & ~known).any():
            return f"it names row {rows[unknown][0]} of shard {numbers[unknown][0]}, which is not there"
        ordered = np.sort(ids, axis=1)
        if (twice := (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ROW)).any():
            return f"it names id {ordered[:, 1:][twice][0]} twice"
        if not np.isfinite(scores[found]).all():
            strange = ids[found][~np.isfinite(scores[found])][0]
            return f"id {strange} has no finite score (unless it is of numbers beyond float32)"
        return None


def _numbered(shard: Mapping[str, Any]) -> int:
    ready = tables.range_of(shard)
    return int(shard["rows"]) if ready is None else ready.rows
