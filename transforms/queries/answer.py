"""From vectors to results: what a query is less of, what it is expanded with, and by which rules it is answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.queries import compose, null_results
from transforms.queries.encode import QueryEncoder
from transforms.records import Modality
from transforms.search.hits import Asked, Hit
from transforms.search.keys import rows_of_key
from transforms.search.rules import AUTO, Rules
from transforms.search.searcher import Searcher
from transforms.search.trace import Trace

ALPHA = 3.0
"""Of query expansion, as its authors found it best."""


@dataclass(frozen=True)
class Wanted(Asked):
    """What is wanted of an answer, beside what a search is asked.

    Attributes:
        minus: texts of which a query is to be less.
        expand: results of a first search that are added to a query; 0: none.
        alpha: the power of the cosine that each of them is weighted with.
    """

    minus: tuple[str, ...] = ()
    expand: int = 0
    alpha: float = ALPHA


def answers(
    searcher: Searcher,
    encoder: QueryEncoder,
    vectors: NDArray[np.float32],
    wanted: Wanted,
    trace: Trace | None = None,
    kinds: Sequence[Modality | None] | None = None,
) -> list[list[Hit]]:
    """Returns the results of each query, of vectors float32 `(q, d)`; `trace` is told what was done for them.

    Args:
        searcher: what is searched.
        encoder: encodes what a query is to be less of.
        vectors: the queries.
        wanted: of each answer.
        trace: is told what was done.
        kinds: what each query is, for `min_score="auto"`; None: a vector, or several made into one; so are all.

    Raises:
        UsageError: a query cannot be answered so.
        PixdexError: the root is damaged, or the encoder failed.
    """
    trace = trace or Trace(is_full=False)
    if wanted.rules.min_score == AUTO:
        kinds = [None] * len(vectors) if kinds is None else kinds
        for kind in dict.fromkeys(kinds):
            null_results.check(searcher, kind, wanted.modality)
    made = prepared(searcher, encoder, vectors, wanted, trace)
    found = searcher.search(
        made,
        wanted.k,
        wanted.nprobe,
        wanted.modality,
        wanted.shortlist,
        wanted.rules,
        wanted.where,
        trace,
        wanted.query_kind,
    )
    if kinds is None or wanted.rules.min_score != AUTO:
        return found
    with trace.step("calibrate"):
        scores = null_results.cut_offs(searcher, made, kinds, wanted.modality).tolist()
    trace.cut_offs += scores
    sign = 1 if searcher.generation.trained.metric == "ip" else -1
    return [
        [hit for hit in hits if sign * hit.score >= sign * least] for hits, least in zip(found, scores, strict=True)
    ]


def prepared(
    searcher: Searcher, encoder: QueryEncoder, vectors: NDArray[np.float32], wanted: Wanted, trace: Trace
) -> NDArray[np.float32]:
    """Returns what is searched with: queries less what they are to be less of, and expanded, float32 `(q, d)`.

    Raises:
        UsageError, PixdexError: as `answers`.
    """
    if wanted.expand and wanted.rules.min_score == AUTO:
        raise UsageError(f"expand adds what is found to a query, so that min_score {AUTO} says nothing: give a number")
    if wanted.minus:
        _check_cosines(searcher, "minus")
        with trace.step("encode"):
            vectors = compose.without(searcher.checked(vectors), encoder.texts(wanted.minus))
    if wanted.expand:
        vectors = _expanded(searcher, searcher.checked(vectors), wanted, trace)
    return vectors


def combined(searcher: Searcher, vectors: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """Returns the one query, float32 `(1, d)`, that several make, each times its weight (`compose.combined`).

    Raises:
        UsageError: as there; or scores are no cosines, so that vectors have lengths of their own.
    """
    _check_cosines(searcher, "weights")
    return compose.combined(searcher.checked(vectors), weights)


def _check_cosines(searcher: Searcher, what: str) -> None:
    if not searcher.has_cosines:
        raise UsageError(f"{what}: directions are added, and scores of this root are no cosines: leave it out")


def vectors_of_keys(searcher: Searcher, keys: Sequence[str]) -> NDArray[np.float32]:
    """Returns the vectors of items, float32 `(n, d)`: of the picture of each, where it has none of its text.

    Raises:
        UsageError: there is no such item.
        PixdexError: the root is damaged.
    """
    rows = []
    for key in keys:
        ids = searcher.known(rows_of_key(searcher.store, searcher.generation, key))
        if not len(ids):
            raise UsageError(
                f"{searcher.store.url} has no item of the key {key!r}: give one as results name it (key of --json)"
            )
        rows.append(int(ids[0]))
    vectors = searcher.stored.all(np.array(rows, np.int64))
    for key, vector in zip(keys, vectors, strict=True):
        if not np.isfinite(vector).all():
            raise UsageError(f"the item {key!r} was rejected, and has no vector: give another")
    return vectors


def _expanded(searcher: Searcher, vectors: NDArray[np.float32], wanted: Wanted, trace: Trace) -> NDArray[np.float32]:
    if wanted.expand < 0:
        raise UsageError(f"expand is {wanted.expand}: take 0 or more")
    _check_cosines(searcher, "expand")

    def found() -> list[tuple[NDArray[np.float32], list[float]]]:
        found = searcher.nearest(vectors, replace(wanted, k=wanted.expand, rules=Rules()), trace)
        rows, places = np.unique(found.ids, return_inverse=True)
        ends = np.cumsum(found.counts)[:-1]
        every = np.split(searcher.stored.all(rows)[places], ends)
        return list(zip(every, [some.tolist() for some in np.split(found.scores, ends)], strict=True))

    return compose.expanded(vectors, found, wanted.alpha)
