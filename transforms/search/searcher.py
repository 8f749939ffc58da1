"""Searches a generation: opens its merged index and deltas, ranks what they hold, and tells what each found row is.

Needs faiss, numpy and pyarrow only. The index is mapped, not read: opening is instant whatever its size, and memory is
what the probed lists take in the page cache. As FastScan it is read into memory instead.
"""

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError, UsageError
from transforms.generations import hidden, tables, tombstones
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.generations.tombstones import Tombstones
from transforms.index.refine import is_exact
from transforms.index.scan import search_lists
from transforms.index.wanted_lists import WantedLists, wanted_lists
from transforms.records import Modality
from transforms.search import ranking, refine
from transforms.search.hits import READERS, Hit, RowMetadata
from transforms.search.keys import rows_of_keys
from transforms.search.known_ids import KnownIds
from transforms.search.open_index import open_index
from transforms.search.ranking import NO_ROW, Ranked, Reach
from transforms.search.refine import SHORTLIST, ReadyFileError, StoredVectors
from transforms.search.rules import KEY, Chosen, Rules
from transforms.search.selection import Selection, Selections
from transforms.shards.lengths import TOO_LONG, too_long
from transforms.storage import outside
from transforms.storage.store import Store

_ROUNDING = 1e-3
"""A cosine above 1 by so much is 1, rounded: by float16 or by codes."""

_EQUAL = 1e-5
"""By so much may the cosine of a vector with itself be less than 1."""

_ROUNDING_OF_BYTES = 5e-3
"""The same of stored vectors, which may be a byte a component."""

_ALL_COMPARED = 20_000
"""Rows that a condition leaves, up to which all are compared: 20 MB of vectors of 512 components."""

_QUERIES_AT_ONCE = 64

_KEPT_LISTS = 8

_GROUPED_ROWS = 3
"""Rows fetched for each result when keys have several: most searches then need one look."""


class Searcher:
    """A generation, open for searching: what it added is found, what it removed is not. Threads may share it."""

    def __init__(
        self,
        store: Store,
        generation: Generation,
        *,
        fast_scan: bool = False,
        check: bool = False,
        trust_uris: bool = False,
        with_hidden: bool = False,
    ) -> None:
        """Opens the merged index, what was added since, the table of shards, and what is dead.

        Args:
            store: the root.
            generation: one of it.
            fast_scan: read 4-bit PQ or RaBitQ codes into memory as FastScan, which scans them several times faster;
                opening reads the whole index. Scores are rounded to 8 bits on the way.
            check: hold all lists, and each shard that a result is of, against their checksums: they are read whole.
            trust_uris: ready embeddings may lie at addresses of this machine and its network (`storage.outside`).
            with_hidden: items that are hidden are found, too.

        Raises:
            UsageError: `fast_scan` for an index whose codes are neither 4-bit PQ nor RaBitQ; ready embeddings lie where
                a root of anybody's must not lead.
            PixdexError: a file is missing or is not the one that the generation names.
        """
        self.store = store
        self.generation = generation
        self._check = check
        self._index = open_index(store, generation, fast_scan=fast_scan, check=check)
        dead = [tombstones.read_all(store, generation.tables.tombstones)]
        if not with_hidden:
            dead.append(Tombstones.of(rows_of_keys(store, generation, hidden.read(store, generation))))
        self._dead = Tombstones.joined(dead)
        # 7 microseconds a shard: 0.1 s at 10⁹ vectors.
        rows = tables.shard_rows(store, generation)
        self._shards = {row["shard"]: row for row in rows if row["path"] or row.get("ready")}
        self._known = KnownIds.of(self._shards)
        if generation.request.is_ready:
            outside.check_sources(generation.request, trusted=trust_uris)
        for row in self._shards.values():
            tables.ready_of(store, generation, row)
        self._is_exact = is_exact(generation.trained.key)
        self.stored = StoredVectors(store, generation, self._shards, check=check)
        self._pool = ThreadPoolExecutor(READERS, "metadata")  # its threads end with the searcher
        self._selections = Selections(store, self._shards, self._dead, self._pool)
        self._wanted: dict[Selection, WantedLists] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        store: Store,
        number: int | None = None,
        *,
        fast_scan: bool = False,
        check: bool = False,
        trust_uris: bool = False,
        with_hidden: bool = False,
    ) -> "Searcher":
        """Opens the current generation of a root, or the one with this number; the rest as above.

        Raises:
            UsageError: there is none, or it cannot be opened so.
            PixdexError: it is damaged.
        """
        generation = open_generation(store, number)
        return cls(store, generation, fast_scan=fast_scan, check=check, trust_uris=trust_uris, with_hidden=with_hidden)

    def keys_where(self, where: str) -> list[str]:
        """Returns the keys of the rows for which a condition is true, each once.

        Raises:
            UsageError: it is no condition over metadata.
        """
        metadata = RowMetadata(self.store, self._shards, self._pool, check=self._check)
        ids = self._selections.of(None, where).ids() if self._shards else np.empty(0, np.int64)
        return list(dict.fromkeys(metadata.keys(ids)))

    def known(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns those of some rows that are alive.

        Raises:
            PixdexError: one is of no shard that there is, or beyond its end.
        """
        living: NDArray[np.int64] = ids[self._dead.are_alive(ids)]
        if (why := self._known.strange(living[None], np.zeros((1, len(living)), np.float32))) is not None:
            raise PixdexError(f"{self.store.url}: a key table is damaged, {why}: pixdex verify says where")
        return living

    def count(self, modality: Modality) -> int:
        """Returns how many vectors of a modality the generation holds, without dead ones."""
        totals = self.generation.totals
        return {"image": totals.images, "text": totals.texts, "keyword": totals.keywords}[modality]

    def search(
        self,
        vectors: NDArray[np.float32],
        k: int,
        nprobe: int | None = None,
        modality: Modality | None = None,
        shortlist: int | None = None,
        rules: Rules | None = None,
        where: str | None = None,
    ) -> list[list[Hit]]:
        """Finds the nearest items of every query, each item once, ties by id.

        Args:
            vectors: float32 `(q, d)`; their length does not matter when the root is normalised.
            k: results a query; fewer come back only when there are no more.
            nprobe: lists probed. None probes as many as the trained index says, and more where they hold fewer than `k`
                items. More find more and cost proportionally.
            modality: only rows of this kind. Where the generation holds others too, a list counts as probed by its
                rows of this kind (`WantedLists`), so that one finds as much as where they are alone; the first such
                search reads the ids of all lists, and each probes up to eight times as many lists.
            shortlist: so many of the rows that the codes say are nearest, and `k` at least, are ranked by their stored
                vectors; 0: none are. None: 100. Each costs a read of a vector. Where not all rows have theirs stored,
                scores are those of codes, and an index whose codes are exact needs no shortlist.
            rules: which of the nearest are results; None: all.
            where: a condition over metadata, in SQL (`Condition`): only rows for which it is true. Up to 20,000 such
                rows are all compared with the query, where their vectors are at hand; of more, lists are probed as of
                rows of one kind.

        Raises:
            UsageError: vectors of another dimension or without a direction, `k` or `nprobe` below 1, or `shortlist`
                below 0.
        """
        if where is not None and len(vectors) > _QUERIES_AT_ONCE:  # each may be compared with thousands of rows
            parts = (vectors[at : at + _QUERIES_AT_ONCE] for at in range(0, len(vectors), _QUERIES_AT_ONCE))
            every = (self.search(part, k, nprobe, modality, shortlist, rules, where) for part in parts)
            return [hits for part in every for hits in part]
        try:
            return self._search(vectors, k, nprobe, modality, shortlist, rules, where)
        except ReadyFileError as error:
            self.stored.do_without(error)
            return self._search(vectors, k, nprobe, modality, shortlist, rules, where)

    def _search(
        self,
        vectors: NDArray[np.float32],
        k: int,
        nprobe: int | None,
        modality: Modality | None,
        shortlist: int | None,
        rules: Rules | None,
        where: str | None,
    ) -> list[list[Hit]]:
        queries = self.checked(vectors)
        for name, value, least in (("k", k, 1), ("nprobe", nprobe, 1), ("shortlist", shortlist, 0)):
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}: take {least} or more")
        trained, totals = self.generation.trained, self.generation.totals
        some_kind = modality is not None and self.count(modality) < totals.vectors
        selected = None
        if totals.vectors and (some_kind or where is not None):
            selected = self._selections.of(modality if some_kind else None, where)
        rows = totals.vectors if selected is None else selected.count
        if not len(queries) or not rows:
            return [[] for _ in queries]
        # An item has at most one picture and one text: only keywords, and kinds mixed, give a key several rows.
        rules = self._rounded(rules or Rules())
        keyed = totals.vectors > totals.embedded and modality not in ("image", "text")
        grouped = keyed or rules.group_by != KEY or rules.dedup is not None
        # A selection leaves the dead out: they cost nothing there.
        scanned = rows if selected is not None else totals.vectors + totals.tombstones
        refined = (SHORTLIST if shortlist is None else shortlist) if self.stored.are_quick and not self._is_exact else 0
        wanted = ranking.over_fetched(max((_GROUPED_ROWS if grouped else 1) * k + 1, refined), 1 - rows / scanned)
        is_small = where is not None and rows <= _ALL_COMPARED
        all_compared = is_small and self.stored.are_quick and not self._is_exact
        among = None if selected is None or all_compared else self._lists_of(selected)
        lists = trained.nlist if among is None else math.ceil(among.total)
        if not lists:
            return [[] for _ in queries]
        if is_small:
            nprobe = lists
        first = Reach(rows if all_compared else min(wanted, scanned), min(nprobe or trained.nprobe, lists))
        most = Reach(scanned, first.nprobe if nprobe else lists)
        metadata = RowMetadata(self.store, self._shards, self._pool, check=self._check)
        keys_of = metadata.keys if keyed else _themselves
        exact: set[int] = set()
        look_at = self._compare if all_compared else self._look_and_refine if refined else self._look
        distances, ids = look_at(queries, first, selected, exact)
        if keyed:
            soon = ids[:, : _GROUPED_ROWS * k]
            metadata.load(soon[(soon != NO_ROW) & self._dead.are_alive(soon)])
        metric, vectors_of = trained.metric, self.stored.remembered(unit=self.has_cosines)

        def begin() -> Chosen:
            return Chosen(rules, metric, partial(metadata.groups, rules.group_by), vectors_of)

        def rank(place: int) -> Ranked:
            def look(reach: Reach) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
                if reach == first:
                    return distances[place], ids[place]
                wider, wider_ids = look_at(queries[place : place + 1], reach, selected, exact)
                return wider[0], wider_ids[0]

            return ranking.rank(
                look,
                keys_of,
                k,
                first,
                most,
                self._dead.are_alive,
                is_shortlist=refined > 0,
                furthest=rules.furthest(metric),
                begin=begin if rules.are_any else None,
            )

        ranked = [rank(place) for place in range(len(queries))]
        metadata.load(np.concatenate([one.ids for one in ranked]))
        if rules.group_by != KEY and not metadata.has_column(rules.group_by):
            raise UsageError(f"no row has a column {rules.group_by}: results show the columns that there are (--json)")
        return [
            [
                metadata.hit(
                    number,
                    self._score(float(distance), stored=int(row) in exact),
                    int(row),
                    exact=self._is_exact or int(row) in exact,
                )
                for number, (distance, row) in enumerate(zip(one.distances, one.ids, strict=True), start=1)
            ]
            for one in ranked
        ]

    @property
    def has_cosines(self) -> bool:
        """Whether scores are cosines."""
        return self.generation.trained.metric == "ip" and self.generation.request.encoder.normalize

    def _score(self, distance: float, *, stored: bool) -> float:
        if self.generation.trained.metric != "ip":
            return distance
        rounding = _ROUNDING_OF_BYTES if stored else _ROUNDING
        return 1.0 if self.has_cosines and 1 < -distance <= 1 + rounding else -distance

    def _rounded(self, rules: Rules) -> Rules:
        """Has equal vectors count as equal, whose cosine is rounded to a little less than 1."""
        if rules.dedup is None or not self.has_cosines:
            return rules
        return replace(rules, dedup=min(rules.dedup, 1 - _EQUAL))

    def checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns queries as they are searched with, float32 `(q, d)`: 1 long where the root is normalised.

        Raises:
            UsageError: they have another dimension, are not finite, or have no direction.
        """
        dim = self.generation.trained.dim
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise UsageError(
                f"query vectors have shape {vectors.shape}, this root takes (queries, {dim}): "
                "make them with the encoder that built it"
            )
        with np.errstate(over="ignore"):
            queries = np.ascontiguousarray(vectors, np.float32)
        if not np.isfinite(queries).all():
            raise UsageError("a query vector is not finite: it holds NaN or infinity")
        if not self.generation.request.encoder.normalize:
            if too_long(queries).any():
                raise UsageError(f"a query cannot be searched: {TOO_LONG}")
            return queries
        # Scaled first, so that the squares of very large or very small components stay numbers.
        largest = np.abs(queries).max(axis=1, keepdims=True)
        if not largest.all():
            raise UsageError("a query vector is zero: it has no direction that could be searched")
        exact = queries.astype(np.float64) / largest
        return np.ascontiguousarray(exact / np.linalg.norm(exact, axis=1, keepdims=True), np.float32)

    def _compare(
        self, queries: NDArray[np.float32], reach: Reach, selected: Selection | None, exact: set[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Compares all rows of a small selection with the queries, by their vectors."""
        assert selected is not None
        ids = np.broadcast_to(selected.ids(), (len(queries), selected.count))
        distances = np.zeros(ids.shape, np.float32)
        metric = self.generation.trained.metric
        everything = np.ones(ids.shape, np.bool_)
        distances, ids, are_exact = refine.rescored(self.stored, metric, queries, ids, distances, everything)
        if not are_exact.all():
            raise PixdexError(f"{self.store.url}: some rows have no stored vectors: see what pixdex verify says")
        exact.update(ids[0].tolist())
        # Rejected rows of ready embeddings have ids, too, and what no index takes for a vector.
        return distances, np.where(np.isfinite(distances), ids, NO_ROW)

    def _look_and_refine(
        self, queries: NDArray[np.float32], reach: Reach, selected: Selection | None, exact: set[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Looks, and ranks what lives of it by stored vectors; adds the rows that have one to `exact`."""
        distances, ids = self._look(queries, reach, selected, exact)
        alive = (ids != NO_ROW) & self._dead.are_alive(ids)
        metric = self.generation.trained.metric
        distances, ids, are_exact = refine.rescored(self.stored, metric, queries, ids, distances, alive)
        if not np.isfinite(distances[are_exact]).all():
            raise PixdexError(
                f"{self.store.url}: stored vectors are damaged, their scores are not finite: pixdex verify says which "
                "file; search with --shortlist 0 meanwhile"
            )
        exact.update(ids[are_exact].tolist())
        return distances, ids

    def _look(
        self, queries: NDArray[np.float32], reach: Reach, selected: Selection | None, _: set[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        index, allowed, among = self._index, None, None
        if selected is not None:
            allowed, among = selected.bits, self._lists_of(selected)
        scores, ids = search_lists(index.merged, queries, reach.rows, reach.nprobe, allowed, index.deltas, among)
        if (why := self._known.strange(ids, scores)) is not None:
            raise PixdexError(
                f"{self.store.full(self.generation.index.path)} or a delta is damaged, {why}: pixdex verify, or search "
                "--check, says where; pixdex reindex --retrain always makes them anew from the stored embeddings"
            )
        return (-scores if self.generation.trained.metric == "ip" else scores), ids

    def _lists_of(self, selection: Selection) -> WantedLists:
        with self._lock:  # whoever comes first looks through all lists, the others wait
            if selection not in self._wanted:
                self._wanted[selection] = wanted_lists(self._index.scanned, selection.bits)
                if len(self._wanted) > _KEPT_LISTS:
                    del self._wanted[next(iter(self._wanted))]
            return self._wanted[selection]


def _themselves(ids: NDArray[np.int64]) -> Sequence[int]:
    keys: list[int] = ids.tolist()
    return keys
