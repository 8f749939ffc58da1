"""`min_score="auto"`: the score from which on rows are results, as a sample of the root's own vectors tells it."""

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.evaluation.null_scores import LEAST, NullScores
from transforms.generations import tables
from transforms.records import MODALITIES, ROW_BITS, Modality, split_ids
from transforms.search.rules import AUTO
from transforms.search.searcher import Searcher
from transforms.search.selection import rows_of
from transforms.shards import files

SAMPLE: Final = 4096
"""Rows of a kind."""

_BLOCKS: Final = 16
"""Places of a root that they are taken from: rows that lie together are read together."""

_STAND_FOR: Final[dict[Modality, tuple[Modality, ...]]] = {
    "image": ("image",),
    "text": ("text", "keyword"),
    "keyword": ("keyword", "text"),
}
"""Rows that queries of a kind are like, the best first."""

_MOST_LOST: Final = 0.2
"""Share of the root's own texts that may find nothing before that is said."""

_log = logging.getLogger(__name__)

_NUMBER: Final = "give a number"


def cut_offs(
    searcher: Searcher, vectors: NDArray[np.float32], kinds: Sequence[Modality | None], modality: Modality | None
) -> NDArray[np.float32]:
    """Returns the least score of each query, of distances the largest, with which a row is its result: float32 `(q,)`.

    Null queries are made after the root's own rows of the kind of the query: what they score with rows of the wanted
    kind calibrates (`evaluation.null_scores`). A text needs texts, or keywords, in the root, a picture needs pictures;
    no two of them must be of one item. A vector counts as of the kind of the row that it is nearest to.

    Args:
        searcher: the generation. It keeps what was calibrated, for each kind of query and of rows; threads that come
            second wait.
        vectors: what is searched with, float32 `(q, d)`.
        kinds: of each query; None: it is a vector.
        modality: which rows may be found; None: any. Of those of a condition as many are taken for granted as there are
            of the kind, which is careful.

    Raises:
        UsageError: scores are products of vectors of any length, or there are fewer than 64 rows of a kind.
        PixdexError: a file is missing or damaged.

    Where texts and pictures of the same items are sampled, and more than a fifth of the texts would find nothing, a
    warning says so: what is meant and what is not do not part by their scores then.

    Cost: the first time, 4,096 rows of each kind from 16 places, each a row group of 4,096 rows of a shard that is read
    and decoded: about 100 reads on an object store, of 2 bytes a component and row of these groups. Then about a second
    at 64 components, two at 512. After that 4,096 · d products a query. What is kept takes 16 MB at 512 components.
    """
    queries, found = searcher.checked(vectors), np.empty(len(vectors), np.float32)
    for kind in dict.fromkeys(kinds):
        mine = np.array([one == kind for one in kinds], np.bool_)
        found[mine] = _of_a_kind(searcher, queries[mine], kind, modality)
    return found


def _of_a_kind(
    searcher: Searcher, queries: NDArray[np.float32], kind: Modality | None, modality: Modality | None
) -> NDArray[np.float32]:
    enough = check(searcher, kind, modality)
    with searcher.calibrating:
        calibrated = [_calibrated(searcher, one, modality) for one in enough]
    if len(calibrated) == 1:
        return calibrated[0].cut_offs(queries)
    mine = np.argmin([one.nearest_like(queries) for one in calibrated], axis=0)
    every = np.stack([one.cut_offs(queries) for one in calibrated])
    chosen: NDArray[np.float32] = np.take_along_axis(every, mine[None], axis=0)[0]
    return chosen


def check(searcher: Searcher, kind: Modality | None, modality: Modality | None) -> tuple[Modality, ...]:
    """Returns which kinds of rows stand for the queries, of which there are enough; reads nothing.

    Raises:
        UsageError: as `cut_offs`.
    """
    where = f"min_score {AUTO}: {searcher.store.url}"
    if searcher.generation.trained.metric == "ip" and not searcher.has_cosines:
        raise UsageError(f"{where} scores by products of vectors of any length, which have no scale: {_NUMBER}")
    wanted = searcher.generation.totals.vectors if modality is None else searcher.count(modality)
    if wanted < LEAST:
        raise UsageError(f"{where} has {wanted} rows that may be found, and {LEAST} are the least: {_NUMBER}")
    candidates = MODALITIES if kind is None else _STAND_FOR[kind]
    enough = tuple(one for one in candidates if searcher.count(one) >= LEAST)
    if not enough:
        named = {"image": "pictures", "text": "texts"}.get(kind or "", "rows of a kind")
        count = max(searcher.count(one) for one in candidates)
        raise UsageError(
            f"{where} has {count} {named} that tell what such queries score, and {LEAST} are the least: {_NUMBER}"
        )
    return enough if kind is None else enough[:1]


def _calibrated(searcher: Searcher, kind: Modality, modality: Modality | None) -> NullScores:
    if (kind, modality) not in searcher.null_scores:
        like = sample(searcher, kind)
        rows = like if kind == modality else sample(searcher, modality)
        for some, what in ((rows, modality), (like, kind)):
            if len(some) < LEAST:  # most of them are dead, or were rejected
                raise UsageError(
                    f"min_score {AUTO}: {searcher.store.url} has {len(some)} rows of kind {what or 'any'} where they "
                    f"are sampled, and {LEAST} are the least: {_NUMBER}"
                )
        totals = searcher.generation.totals
        total = max(len(rows), totals.vectors if modality is None else searcher.count(modality))
        metric = searcher.generation.trained.metric
        made = NullScores.of(rows, like, metric, total)
        # Texts and pictures that are sampled at the same places are of the same items, where all have both.
        are_paired = kind != modality and (total == len(rows) or searcher.count(kind) == total)
        if are_paired and (lost := made.losing()) > _MOST_LOST:
            _log.warning(
                "min_score %s: of the %ss of the root itself %.0f %% would find nothing, as they score like nonsense: "
                "a number may do better",
                AUTO, kind, 100 * lost,
            )  # fmt: skip
        searcher.null_scores[kind, modality] = made
    return searcher.null_scores[kind, modality]


def sample(searcher: Searcher, kind: Modality | None, count: int = SAMPLE) -> NDArray[np.float32]:
    """Returns vectors of rows that are alive, float32 `(n, d)`: all of a kind (None: of any), or about `count` of them.

    They come from 16 places that lie in equal shares of the rows, each drawn in its share, always the same.
    """
    store, dim = searcher.store, searcher.generation.trained.dim
    shards = {row["shard"]: row for row in tables.shard_rows(store, searcher.generation)}
    slices = [(number, rows_of(row, kind)) for number, row in sorted(shards.items())]
    lengths = np.array([one.stop - one.start for _, one in slices], np.int64)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    if total <= count:
        places = np.arange(total)
    else:
        block, share = count // _BLOCKS, total / _BLOCKS
        drawn = np.random.default_rng(0).random(_BLOCKS)
        starts = (np.arange(_BLOCKS) * share + drawn * max(0.0, share - block)).astype(np.int64)
        places = np.unique(starts[:, None] + np.arange(block))
    owners = np.searchsorted(ends, places, side="right")
    numbers = np.array([number for number, _ in slices], np.int64)[owners]
    firsts = np.array([one.start for _, one in slices], np.int64)[owners]
    ids = searcher.known((numbers << ROW_BITS) + firsts + places - (ends - lengths)[owners])
    parts = [np.empty((0, dim), np.float32)]
    owned, rows = split_ids(ids)
    for number in np.unique(owned).tolist():
        mine, shard = owned == number, shards[number]
        # Row by row, as a shortlist is read, they would be a read each on an object store.
        if shard.get("ready"):
            parts.append(searcher.stored.all(ids[mine]))
        else:
            parts.append(files.read_rows(store, tables.file_of(shard), rows[mine]))
    vectors = np.concatenate(parts)
    lengths_of = np.linalg.norm(vectors, axis=1)
    sound = np.isfinite(vectors).all(axis=1) & (lengths_of > 0 if searcher.has_cosines else True)
    vectors = vectors[sound]
    return vectors / lengths_of[sound, None] if searcher.has_cosines else vectors
