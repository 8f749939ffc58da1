"""Which of the ranked rows are results: near-duplicates once, so many of a group, nothing below a score."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.records import Metric

KEY: Final = "key"

ID: Final = "id"
"""Groups nothing, neither by item nor by picture: each row is a result."""

CONTENT: Final = "content"

AUTO: Final = "auto"
"""Stands for a score that each query has of its own, below which what was found is cut (`queries.null_results`)."""

EQUAL: Final = 1e-5
"""By so much may the cosine of a vector with itself be less than 1."""

VectorsOf = Callable[[NDArray[np.int64]], NDArray[np.float32]]
GroupsOf = Callable[[NDArray[np.int64]], Sequence[Hashable]]


class Alike(Protocol):
    """What knows which rows are the same, of those that have equal vectors."""

    def expect(self, ids: NDArray[np.int64], /) -> None:
        """Hears which rows may be compared next."""
        ...

    @property
    def rounding(self) -> float:
        """By how much the cosine of vectors may be less than 1 that were equal before they were stored."""
        ...

    def are_equal(self, one: int, other: int, /) -> bool:
        """Tells whether two rows have the same content, whose vectors are equal as they are stored."""
        ...


@dataclass(frozen=True)
class Rules:
    """What a person wants of results, beside that they are near.

    Attributes:
        group_by: a column of the rows, of pixdex (`uri`: the picture) or of the source: of the rows that have the same
            in it, `per_group` are shown. `key`, the default, shows each item and each picture once, and no more is
            asked (`id` does not even ask that). Rows without such a column, or with nothing in it, are groups of their
            own.
        per_group: how many, at least 1.
        dedup: a row that is as near to one that is shown is not: a score, of `ip` the least, else the most. `content`:
            only one that has the same content is not (`Alike`).
        min_score: nothing that is further away is shown: a score, likewise. `auto`: each query has its own.
    """

    group_by: str = KEY
    per_group: int = 1
    dedup: float | Literal["content"] | None = None
    min_score: float | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        """Refuses what no row could keep to.

        Raises:
            UsageError: naming it.
        """
        if not isinstance(self.group_by, str):
            raise UsageError(f"group_by is {self.group_by!r}: take the name of a column")
        if not isinstance(self.per_group, int) or self.per_group < 1:
            raise UsageError(f"per_group is {self.per_group}: take 1 or more")
        if self.per_group > 1 and not self.group:
            raise UsageError("per_group needs group_by, of a column whose values several items have")
        if self.dedup not in (None, CONTENT) and (isinstance(self.dedup, str) or not np.isfinite(self.dedup)):
            raise UsageError(f"dedup is {self.dedup}: take a score, or {CONTENT}")
        if self.min_score not in (None, AUTO) and (isinstance(self.min_score, str) or not np.isfinite(self.min_score)):
            raise UsageError(f"min_score is {self.min_score}: take a score, or {AUTO}")

    @property
    def group(self) -> bool:
        """Tells whether rows are grouped by what is in a column."""
        return self.group_by not in (KEY, ID)

    @property
    def are_any(self) -> bool:
        """Tells whether any is asked for that rows are held against while they are ranked; `auto` is none."""
        cut_afterwards = self.min_score is None or self.min_score == AUTO
        return self.group or self.dedup is not None or not cut_afterwards

    def furthest(self, metric: Metric) -> float:
        """The largest distance that is shown; of `ip` a distance is the negative product."""
        if self.min_score is None or isinstance(self.min_score, str):  # of auto, what was found is cut afterwards
            return float("inf")
        return -self.min_score if metric == "ip" else self.min_score


class Chosen:
    """The results of one query so far, which rows are offered to, nearest first, each key once."""

    def __init__(
        self, rules: Rules, metric: Metric, groups_of: GroupsOf, vectors_of: VectorsOf, contents: Alike
    ) -> None:
        """Begins with none."""
        self._rules, self._metric = rules, metric
        self._groups_of, self._vectors_of, self._contents = groups_of, vectors_of, contents
        self._groups: dict[int, Hashable] = {}
        self._vectors: dict[int, NDArray[np.float32]] = {}
        self._taken: Counter[Hashable] = Counter()
        self._shown: list[NDArray[np.float32]] = []
        self._shown_rows: list[int] = []

    def expect(self, ids: NDArray[np.int64]) -> None:
        """Reads what the rules need of rows that may be offered next."""
        if self._rules.group:
            self._groups.update(zip(ids.tolist(), self._groups_of(ids), strict=True))
        if self._rules.dedup is not None:
            self._vectors.update(zip(ids.tolist(), self._vectors_of(ids), strict=True))
        if self._rules.dedup == CONTENT:
            self._contents.expect(ids)

    def take(self, row: int) -> bool:
        """Tells whether a row is a result, and keeps in mind that it is."""
        group = self._groups.get(row)
        if group is not None and self._taken[group] >= self._rules.per_group:
            return False
        if self._rules.dedup is not None:
            vector = self._vectors[row]
            if self._shown and self._is_repeated(row, vector, self._rules.dedup):
                return False
            self._shown.append(vector)
            self._shown_rows.append(row)
        self._taken[group] += 1
        return True

    def _is_repeated(self, row: int, vector: NDArray[np.float32], dedup: float | Literal["content"]) -> bool:
        shown = np.stack(self._shown)
        if isinstance(dedup, str):
            equal = np.flatnonzero(are_equal(shown, vector, self._contents.rounding))
            return any(self._contents.are_equal(self._shown_rows[place], row) for place in equal.tolist())
        if self._metric == "ip":
            return bool((shown @ vector).max() >= dedup)
        apart = shown - vector
        distances = np.abs(apart).sum(axis=1) if self._metric == "l1" else np.square(apart).sum(axis=1)
        return bool(distances.min() <= dedup)


def are_equal(vectors: NDArray[np.float32], vector: NDArray[np.float32], rounding: float) -> NDArray[np.bool_]:
    """Tells which of vectors `(n, d)` are equal to one but for rounding, bool `(n,)`.

    They are no further apart than two of its length whose cosine is 1 - `rounding`.
    """
    apart = np.square(vectors - vector).sum(axis=1)
    lengths = np.maximum(np.square(vectors).sum(axis=1), np.square(vector).sum())
    near: NDArray[np.bool_] = apart <= 2 * rounding * lengths
    return near
