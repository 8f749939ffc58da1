"""Looks into a generation: what some rows of it find, and how near the nearest others of more of them are.

The queries are rows of the root, by their stored vectors, so that no encoder is needed: the vector of a text is that of
the same text as a query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.generations.manifest import Generation
from transforms.index.exact import distances_of
from transforms.index.open_trained import trained_index
from transforms.index.reconstruction import reconstruction_error
from transforms.records import MODALITIES, Modality
from transforms.report import draw
from transforms.search.hits import Asked
from transforms.search.metadata import shown
from transforms.search.rules import ID, Rules
from transforms.search.searcher import Searcher
from transforms.search.slices import Whole
from transforms.search.way import show_pictures_once
from transforms.storage.store import Store

LARGE: Final = 4 << 20
"""Vectors; of more of them, or of an index of more than `FAR_BYTES` bytes on an object store, no index is opened and no
list read: rows look for their nearest in a sample alone."""

FAR_BYTES: Final = 64 << 20

_AMONG: Final = 4096
"""Rows of that sample."""

QUERIES: Final = 3
"""Of each kind that is asked."""

RESULTS: Final = 6
LOOKED_AT: Final = 500
"""Rows whose nearest other row is looked for."""

LOOKED_AT_OF_SHARED: Final = 120
"""The same where several rows may show one picture, or be of one item: metadata tells whose the others are."""

DECODED: Final = 128
"""Rows whose codes are decoded."""

PAIRS: Final = 6
_NEAR: Final = 4
"""Rows that are looked at for the nearest other one: itself, and some of the same picture."""

_SHORTLIST: Final = 10
NEAR_COSINE: Final = 0.9
"""Below it no pair is shown as one of near duplicates."""

_EQUAL: Final = 1e-3


@dataclass(frozen=True)
class Item:
    """A row, as a page shows it.

    Attributes:
        shows: its picture, or where it is of none its key.
    """

    id: int
    key: str
    uri: str
    modality: Modality
    caption: str | None
    shows: str

    @property
    def is_pictured(self) -> bool:
        """Whether its URI is that of a picture: that of a text, or of a ready embedding, may be a file with many."""
        return self.modality == "image" and self.shows == self.uri


@dataclass(frozen=True)
class Answered:
    """A row that was asked, for rows of a kind, and what it found, nearest first, with their scores."""

    asked: Item
    target: Modality
    found: tuple[tuple[Item, float], ...]


@dataclass(frozen=True)
class Pair:
    """Two rows of different items that are near to each other; `is_equal`: their vectors are the same."""

    one: Item
    other: Item
    score: float
    is_equal: bool


@dataclass(frozen=True)
class Nearest:
    """How near the nearest other item of each of some rows is.

    Attributes:
        kind: of all these rows.
        scores: of each row that has another, best first.
        equal: how many of these have the vector of another item; None: not all were compared.
        pairs: the nearest, of which no row is in two; only near ones.
    """

    kind: Modality
    scores: tuple[float, ...]
    equal: int | None
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Samples:
    """What was looked at.

    Attributes:
        within: rows that others were looked for in, of a root that is too large for more; None: the whole index.
        cosines: whether scores are cosines; `higher`: whether a higher one is nearer.
        reconstruction_error: what codes lose of rows that were drawn, in percent, as autofaiss has it; None where the
            root is too large, or faiss does not decode its codes.
    """

    answered: tuple[Answered, ...]
    nearest: Nearest | None
    within: int | None
    cosines: bool
    higher: bool
    reconstruction_error: float | None = None


Rows = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Ids, and the vectors of these, `(n,)` and `(n, d)`."""


@dataclass(frozen=True, eq=False)
class _Found:
    """Rows that were found, for each query nearest first: ids int64 and scores float32."""

    ids: list[NDArray[np.int64]]
    scores: list[NDArray[np.float32]]


def samples_of(store: Store, generation: Generation, *, trust_uris: bool = False) -> Samples:
    """Looks into a generation; the same rows are drawn whenever it is the same.

    Cost: some hundred searches, and as many reads of a vector; of a large root (`LARGE`) the vectors of 4,096 rows of
    each kind. Hidden and dead rows are neither asked nor found.

    Raises:
        PixdexError: a file is missing or damaged.
        UsageError: ready embeddings are where a root of anybody's must not lead.
    """
    is_far = store.local is None and generation.index.bytes > FAR_BYTES
    look: _Look
    if generation.totals.vectors > LARGE or is_far:
        index = Whole(store, generation)  # which opens nothing
        look = _Sample(Searcher(store, generation, trust_uris=trust_uris, index=index))
    else:
        look = _Index(Searcher(store, generation, trust_uris=trust_uris))
    searcher, seed = look.searcher, generation.request.seed
    kinds = [kind for kind in MODALITIES if searcher.count(kind)]
    answered: list[Answered] = []
    nearest = error = None
    if kinds:
        target = kinds[0]
        asked = [target, *(kinds[1:2] if target == "image" else [])]
        for place, kind in enumerate(asked):
            answered += _answered(look, kind, target, seed + place)
        nearest = _nearest(look, target, seed)
        if isinstance(look, _Index):
            vectors = look.draw(target, DECODED, seed)[1]
            if len(vectors):
                error = reconstruction_error(trained_index(store, generation.trained), searcher.checked(vectors))
    higher = generation.trained.metric == "ip"
    return Samples(tuple(answered), nearest, look.within, searcher.has_cosines, higher, error)


class _Index:
    """Searches the index."""

    within: int | None = None

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher

    def draw(self, kind: Modality, count: int, seed: int) -> Rows:
        places = draw.places_of(self.searcher, kind)
        # Vectors that are not stored one by one are taken out of shards, thousands of rows at a time.
        how = draw.single if self.searcher.stored.are_quick or count <= QUERIES else draw.runs
        return _sound(self.searcher, how(self.searcher, places, count, seed)[:count])

    def find(self, vectors: NDArray[np.float32], target: Modality, k: int, shortlist: int | None) -> _Found:
        asked = Asked(k, modality=target, shortlist=shortlist, rules=Rules(group_by=ID))
        found = self.searcher.nearest(vectors, asked)
        ends = np.cumsum(found.counts)[:-1]
        return _Found(np.split(found.ids, ends), np.split(found.scores, ends))


class _Sample:
    """Compares with a sample of the rows of a kind."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self._drawn: dict[Modality, Rows] = {}
        self.within: int | None = 0

    def draw(self, kind: Modality, count: int, seed: int) -> Rows:
        ids, vectors = self._rows(kind)
        chosen = np.random.default_rng(seed).permutation(len(ids))[:count]
        return ids[chosen], vectors[chosen]

    def find(self, vectors: NDArray[np.float32], target: Modality, k: int, shortlist: int | None) -> _Found:
        ids, rows = self._rows(target)
        metric = self.searcher.generation.trained.metric
        distances = distances_of(self.searcher.checked(vectors), rows, metric)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(distances, order, axis=1)
        return _Found([ids[each] for each in order], list(-scores if metric == "ip" else scores))

    def _rows(self, kind: Modality) -> Rows:
        if kind not in self._drawn:
            places, seed = draw.places_of(self.searcher, kind), self.searcher.generation.request.seed
            ids, vectors = _sound(self.searcher, draw.runs(self.searcher, places, _AMONG, seed)[:_AMONG])
            self._drawn[kind] = ids, self.searcher.checked(vectors)
            self.within = max(self.within or 0, len(ids))
        return self._drawn[kind]


_Look = _Index | _Sample


def _sound(searcher: Searcher, ids: NDArray[np.int64]) -> Rows:
    """Rows with their vectors, less those that have no direction: rejected rows of ready embeddings have a number."""
    vectors = searcher.stored.all(ids)
    sound = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
    return ids[sound], vectors[sound]


def _answered(look: _Look, kind: Modality, target: Modality, seed: int) -> list[Answered]:
    ids, vectors = look.draw(kind, QUERIES, seed)
    if not len(ids):
        return []
    found = look.find(vectors, target, RESULTS + _NEAR, None)
    items = _items(look.searcher, np.concatenate([ids, *found.ids]))
    answers = []
    for row, others, scores in zip(ids.tolist(), found.ids, found.scores, strict=True):
        asked = items[row]
        kept: dict[str, tuple[Item, float]] = {}
        for one, score in zip(others.tolist(), scores.tolist(), strict=True):
            # Of the same kind a row finds itself; a caption finds its own picture, which is what it is for.
            if kind != target or _are_others(asked, items[one]):
                kept.setdefault(items[one].shows, (items[one], score))
        answers.append(Answered(asked, target, tuple(kept.values())[:RESULTS]))
    return answers


def _nearest(look: _Look, kind: Modality, seed: int) -> Nearest | None:
    searcher = look.searcher
    is_shared = kind == "keyword" or show_pictures_once(searcher.generation)
    ids, vectors = look.draw(kind, LOOKED_AT_OF_SHARED if is_shared else LOOKED_AT, seed + 1)
    if not len(ids):
        return None
    found = look.find(vectors, kind, _NEAR, _SHORTLIST)
    items = _items(searcher, np.concatenate([ids, *found.ids])) if is_shared else {}
    pairs: list[tuple[int, int, float]] = []
    for row, others, scores in zip(ids.tolist(), found.ids, found.scores, strict=True):
        for one, score in zip(others.tolist(), scores.tolist(), strict=True):
            if one != row and (not is_shared or _are_others(items[row], items[one])):
                pairs.append((row, one, score))
                break
    if not pairs:
        return None
    higher = searcher.generation.trained.metric == "ip"
    pairs.sort(key=lambda pair: (-pair[2] if higher else pair[2], *sorted(pair[:2])))
    compared = pairs if searcher.stored.are_quick else pairs[: 2 * PAIRS]
    same = _same_vectors(searcher, compared)
    near = [
        (pair, is_equal)
        for pair, is_equal in zip(compared, same, strict=True)
        if is_equal or (searcher.has_cosines and pair[2] >= NEAR_COSINE)
    ]
    apart: list[tuple[tuple[int, int, float], bool]] = []
    for pair, is_equal in near:
        if len(apart) < PAIRS and not {*pair[:2]} & {row for (one, other, _), _ in apart for row in (one, other)}:
            apart.append((pair, is_equal))
    items = _items(searcher, np.array([row for pair, _ in apart for row in pair[:2]], np.int64))
    shown_pairs = tuple(Pair(items[one], items[other], score, is_equal) for (one, other, score), is_equal in apart)
    scores_of_all = tuple(score for _, _, score in pairs)
    return Nearest(kind, scores_of_all, sum(same) if len(compared) == len(pairs) else None, shown_pairs)


def _same_vectors(searcher: Searcher, pairs: Sequence[tuple[int, int, float]]) -> list[bool]:
    """Tells of each pair whether its vectors are equal, but for rounding."""
    ones = searcher.stored.all(np.array([one for one, _, _ in pairs], np.int64))
    others = searcher.stored.all(np.array([other for _, other, _ in pairs], np.int64))
    length = np.maximum(np.linalg.norm(ones, axis=1), 1e-12)
    same: list[bool] = (np.linalg.norm(ones - others, axis=1) <= _EQUAL * length).tolist()
    return same


def _are_others(one: Item, other: Item) -> bool:
    """Tells whether two rows are of different items, and of different pictures."""
    return one.key != other.key and one.shows != other.shows


def _items(searcher: Searcher, ids: NDArray[np.int64]) -> dict[int, Item]:
    if not len(ids):
        return {}
    rows = np.unique(ids)
    table = searcher.table_of(rows, ["key", "uri", "modality", "caption"]).to_pylist()
    return {
        row: Item(row, each["key"], each["uri"], each["modality"], each["caption"], shown(each["key"], each["uri"]))
        for row, each in zip(rows.tolist(), table, strict=True)
    }
