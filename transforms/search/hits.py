"""What is asked of a search, and what it found: rows with their scores, and results that a person can read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.generations.tuned import QueryKind
from transforms.records import Metric, Modality
from transforms.search.metadata import RowMetadata, shown
from transforms.search.ranking import AreAlive, FirstLooks, Ranked
from transforms.search.rules import Rules
from transforms.storage import tar_members


@dataclass(frozen=True)
class Asked:
    """What is asked of a search of one or many vectors, as `Searcher.search` says it.

    Attributes:
        k: results a query.
        nprobe, shortlist: how far a search goes; None: as usual, or as it was tuned for queries of this kind.
        modality: only rows of this kind; None: of any.
        rules: which of the nearest are results.
        where: a condition over metadata, in SQL: only rows for which it is true.
        query_kind: what the queries are; None: nobody knows, or of several kinds.
    """

    k: int = 10
    nprobe: int | None = None
    modality: Modality | None = None
    shortlist: int | None = None
    rules: Rules = field(default_factory=Rules)
    where: str | None = None
    query_kind: QueryKind | None = None

    def check(self) -> None:
        """Refuses numbers that mean nothing.

        Raises:
            UsageError: naming one.
        """
        for name, value, least in (("k", self.k, 1), ("nprobe", self.nprobe, 1), ("shortlist", self.shortlist, 0)):
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}: take {least} or more")


@dataclass(slots=True)  # frozen ones take four times as long to make
class Hit:
    """One result.

    Attributes:
        rank: from 1.
        score: inner product, higher is nearer, or squared L2 or L1 distance, lower is nearer.
        id, key, uri, modality, part, caption: of the row that was found; the best one of its key.
        columns: the source's own columns.
        exact: whether the score is that of the vector as it is stored, and not of its code.
        captions: of its picture, where several items that stand beside each other in the source have that one.
    """

    rank: int
    score: float
    id: int
    key: str
    uri: str
    modality: str
    part: int
    caption: str | None
    columns: dict[str, Any]
    exact: bool = False
    captions: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it is, for a person: its URI, or its key where that says which row or member it is of a file."""
        return self.key if tar_members.place_of(self.uri) is not None else shown(self.key, self.uri)


@dataclass(frozen=True)
class Found:
    """Rows that were found, query after query, nearest first.

    Attributes:
        counts: of each query, int64 `(q,)`.
        ids: int64 `(n,)`.
        scores: float32 `(n,)`.
        exact: whether each score is that of the vector as it is stored, bool `(n,)`.
    """

    counts: NDArray[np.int64]
    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    exact: NDArray[np.bool_]

    @classmethod
    def nothing(cls, queries: int) -> Self:
        """Nothing, of so many queries."""
        return cls(np.zeros(queries, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.bool_))

    @classmethod
    def of(cls, ranked: Sequence[Ranked]) -> Self:
        """Takes what was ranked for each query; its distances are the scores, none of them exact."""
        ids = np.concatenate([np.empty(0, np.int64), *(one.ids for one in ranked)])
        scores = np.concatenate([np.empty(0, np.float32), *(one.distances for one in ranked)])
        counts = np.array([len(one.ids) for one in ranked], np.int64)
        return cls(counts, ids, scores, np.zeros(len(ids), np.bool_))

    @classmethod
    def of_looks(cls, looked: FirstLooks) -> Self:
        """Does the same with the first looks of all queries, none of which needs another."""
        ids, scores = looked.ids[looked.chosen], looked.distances[looked.chosen]
        return cls(looked.chosen.sum(axis=1, dtype=np.int64), ids, scores, np.zeros(len(ids), np.bool_))

    @classmethod
    def joined(cls, parts: Sequence["Found"]) -> Self:
        """Makes one of several, in their order."""
        every: list[Found] = [cls.nothing(0), *parts]
        return cls(
            np.concatenate([one.counts for one in every]),
            np.concatenate([one.ids for one in every]),
            np.concatenate([one.scores for one in every]),
            np.concatenate([one.exact for one in every]),
        )

    def cut(self, cut_offs: NDArray[np.float32], metric: Metric) -> Self:
        """Leaves out what scores less than its query asks, float32 `(q,)`: as results stand nearest first, their ends.

        Of `ip` a lower score is less, of distances a higher one.
        """
        mine = cut_offs[self.queries]
        kept = self.scores >= mine if metric == "ip" else self.scores <= mine
        counts = np.bincount(self.queries[kept], minlength=len(self.counts)).astype(np.int64)
        return type(self)(counts, self.ids[kept], self.scores[kept], self.exact[kept])

    @property
    def queries(self) -> NDArray[np.int64]:
        """The place of the query of each row, int64 `(n,)`."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int64), self.counts)

    @property
    def ranks(self) -> NDArray[np.int64]:
        """The rank of each row among those of its query, from 1, int64 `(n,)`."""
        starts = np.cumsum(self.counts) - self.counts
        return np.arange(1, len(self.ids) + 1, dtype=np.int64) - np.repeat(starts, self.counts)


def hits_of(found: Found, metadata: RowMetadata, alive: AreAlive | None = None) -> list[list[Hit]]:
    """Returns what was found as results of each query, with what is known of the rows.

    Args:
        found: the rows.
        metadata: knows them.
        alive: which rows may be seen, where several items may have one picture, whose texts are looked for.
    """
    metadata.load(found.ids)
    every = []
    listed = (part.tolist() for part in (found.ranks, found.scores, found.ids, found.exact))
    for rank, score, number, exact in zip(*listed, strict=True):
        row, columns = metadata.row(number)
        every.append(
            Hit(
                rank,
                score,
                number,
                row["key"],
                row["uri"],
                row["modality"],
                row["part"],
                row["caption"],
                columns,
                exact,
                () if alive is None else metadata.captions(number, alive),
            )
        )
    ends = np.cumsum(found.counts).tolist()
    return [every[end - count : end] for end, count in zip(ends, found.counts.tolist(), strict=True)]


def told(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Returns results as JSON tells them, on the command line and over HTTP."""
    return [asdict(hit) for hit in hits]
