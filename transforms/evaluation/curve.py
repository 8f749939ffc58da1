"""A point of the curve of a search: how much it finds, and what that costs, at one setting."""

from dataclasses import dataclass

from transforms.evaluation.recall import Recall


@dataclass(frozen=True, eq=False)
class Point:
    """What queries of a kind find at one setting.

    Attributes:
        queries_of: what was asked: `image`, `text`, `keyword`, or `vector` of ready ones.
        nprobe: lists that are probed.
        shortlist: rows that are ranked by their stored vectors; 0: codes rank alone.
        margin: at which a query stops before it has probed all of them; None: it does not.
        is_default: whether that is how a search goes that says nothing.
        recall: of the `k` exact nearest among the `k` found.
        nearest: share of queries that found their very nearest (1-recall@k).
        codes: that a query scans, on average, where it need not look further.
        p50_ms, p99_ms: milliseconds of a search of one query, the median and the one of a hundred that takes longest.
        batch_ms: milliseconds a query, of all at once.
    """

    queries_of: str
    nprobe: int
    shortlist: int
    is_default: bool
    recall: Recall
    nearest: float
    codes: float
    p50_ms: float
    p99_ms: float
    batch_ms: float
    margin: float | None = None
