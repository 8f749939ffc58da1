"""Searches a generation: opens its merged index and deltas, ranks what they hold, and tells what each found row is.

Needs faiss, numpy and pyarrow only. The index is mapped, not read: opening is instant whatever its size, and memory is
what the probed lists take in the page cache. As FastScan it is read into memory instead.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.evaluation.null_scores import NullScores
from transforms.generations import hidden, tables, tombstones
from transforms.generations.manifest import Generation
from transforms.generations.published import open_generation
from transforms.generations.tombstones import Tombstones
from transforms.generations.tuned import QueryKind, Tuned
from transforms.index.refine import is_exact
from transforms.records import Modality
from transforms.search import ranking
from transforms.search.content import Contents
from transforms.search.hits import Asked, Found, Hit, hits_of
from transforms.search.keys import rows_of_keys
from transforms.search.known_ids import KnownIds
from transforms.search.looks import FirstScan, LookOfMany, Looks, Scannable, exact_scan
from transforms.search.metadata import READERS, RowMetadata
from transforms.search.open_index import open_index
from transforms.search.ranking import NO_ROW, FirstLooks, Ranked, Reach
from transforms.search.refine import ReadyFileError, StoredVectors
from transforms.search.row_groups import KEPT_BYTES, Kept
from transforms.search.rules import EQUAL, ID, Chosen, Rules
from transforms.search.selection import Selection, Selections
from transforms.search.trace import Trace
from transforms.search.way import GROUPED_ROWS, Way, all_are_compared, shortlist_of, show_pictures_once, way_of
from transforms.shards.ready_vectors import as_queries
from transforms.storage import outside
from transforms.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

_ROUNDING = 1e-3
"""A cosine above 1 by so much is 1, rounded: by float16 or by codes."""

_ROUNDING_OF_BYTES = 5e-3
"""The same of stored vectors, which may be a byte a component."""

_QUERIES_AT_ONCE = 16_384

_ROWS_AT_ONCE = 4 << 20
"""Rows that are looked at for all queries together: some 64 bytes each, in several arrays."""

_COMPARED_AT_ONCE = 64
"""Queries with a condition, each of which may be compared with thousands of rows."""


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
        index: Scannable | None = None,
    ) -> None:
        """Opens the merged index, what was added since, the table of shards, and what is dead.

        Args:
            store: the root.
            generation: one of it.
            fast_scan: read 4-bit PQ or RaBitQ codes into memory as FastScan, which scans them several times faster;
                opening reads the whole index. Scores are rounded to 8 bits on the way.
            check: hold all lists, and each shard that a result is of, against their checksums: they are read whole.
            trust_uris: ready embeddings may lie at addresses of this machine and its network, and pictures that are
                compared anywhere (`storage.outside`).
            with_hidden: items that are hidden are found, too.
            index: what is scanned instead of the merged index and what was added, which are not opened.

        Raises:
            UsageError: `fast_scan` for an index whose codes are neither 4-bit PQ nor RaBitQ; ready embeddings lie where
                a root of anybody's must not lead.
            PixdexError: a file is missing or is not the one that the generation names.
        """
        self.store = store
        self.generation = generation
        self.index = index or open_index(store, generation, fast_scan=fast_scan, check=check)
        dead = [tombstones.read_all(store, generation.tables.tombstones)]
        if not with_hidden:
            dead.append(Tombstones.of(rows_of_keys(store, generation, hidden.read(store, generation))))
        self._dead = Tombstones.joined(dead)
        self._outside = outside.Outside.of(generation.request, trusted=trust_uris)
        # 7 microseconds a shard: 0.1 s at 10⁹ vectors.
        rows = tables.shard_rows(store, generation)
        self._shards = {row["shard"]: row for row in rows if row["path"] or row.get("ready")}
        known = KnownIds.of(self._shards)
        if generation.request.is_ready:
            outside.check_sources(generation.request, trusted=trust_uris)
        ready = {number: tables.ready_of(store, generation, row) for number, row in self._shards.items()}
        self._ranges = {number: one for number, one in ready.items() if one is not None}
        self._is_exact = is_exact(generation.trained.key)
        self.stored = StoredVectors(store, generation, self._shards, check=check)
        self._pool = ThreadPoolExecutor(READERS, "metadata")  # its threads end with the searcher
        self._kept, self._check = Kept(KEPT_BYTES), check
        self._selections = Selections(store, self._shards, self._dead, self._pool)
        self._looks = Looks(store, generation, self.index, self.stored, known, self._dead.are_alive)
        # What `queries.null_results` calibrated, of queries of a kind for rows of one, and who does so now.
        self.null_scores: dict[tuple[Modality, Modality | None], NullScores] = {}
        self.calibrating = threading.Lock()

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
        metadata = self._metadata()
        ids = self._selections.of(None, where).ids() if self._shards else np.empty(0, np.int64)
        return list(dict.fromkeys(metadata.keys(ids)))

    def known(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns those of some rows that are alive.

        Raises:
            PixdexError: one is of no shard that there is, or beyond its end.
        """
        living: NDArray[np.int64] = ids[self._dead.are_alive(ids)]
        if (why := self._looks.known.strange(living[None], np.zeros((1, len(living)), np.float32))) is not None:
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
        trace: Trace | None = None,
        query_kind: QueryKind | None = None,
    ) -> list[list[Hit]]:
        """Finds the nearest items of every query, each item once, ties by id.

        Args:
            vectors: float32 `(q, d)`; their length does not matter when the root is normalised.
            k: results a query; fewer come back only when there are no more.
            nprobe: lists probed. None probes as many as the trained index says, or as `pixdex tune` chose, and more
                where they hold fewer than `k` items. More find more and cost proportionally.
            modality: only rows of this kind. Where the generation holds others too, a list counts as probed by its
                rows of this kind (`WantedLists`), so that one finds as much as where they are alone; the first such
                search reads the ids of all lists, and each probes up to eight times as many lists.
            shortlist: so many of the rows that the codes say are nearest, and `k` at least, are ranked by their stored
                vectors; 0: none are. None: 100, or as tuned. Each costs a read of a vector. Where not all rows have
                theirs stored, scores are those of codes, and an index whose codes are exact needs no shortlist.
            rules: which of the nearest are results; None: all.
            where: a condition over metadata, in SQL (`Condition`): only rows for which it is true. Up to 20,000 such
                rows are all compared with the query, where their vectors are at hand; of more, lists are probed as of
                rows of one kind.
            trace: is told what was done for it.
            query_kind: what the queries are, for what was tuned; None: of any kind, or of several.

        Raises:
            UsageError: vectors of another dimension or without a direction, `k` or `nprobe` below 1, or `shortlist`
                below 0.
        """
        asked = Asked(k, nprobe, modality, shortlist, rules or Rules(), where, query_kind)
        metadata, trace = self._metadata(), trace or Trace(is_full=False)
        found = self._found(vectors, asked, metadata, trace)
        are_shared = show_pictures_once(self.generation) and asked.rules.group_by != ID
        with trace.step("metadata"):
            return hits_of(found, metadata, self._dead.are_alive if are_shared else None)

    def nearest(self, vectors: NDArray[np.float32], asked: Asked, trace: Trace | None = None) -> Found:
        """Finds what `search` does, as arrays of ids and scores, for many queries."""
        return self._found(vectors, asked, self._metadata(), trace or Trace(is_full=False))

    def over(self, index: Scannable, tuned: Tuned | None = None) -> "Searcher":
        """Returns the same generation with lists of it that were opened otherwise, or tuned so; the rest is shared."""
        other = copy(self)
        other.index, other.generation = index, replace(self.generation, tuned=tuned or self.generation.tuned)
        other._looks = replace(self._looks, index=index, generation=other.generation)
        return other

    def selection(self, asked: Asked) -> Selection | None:
        """Returns the rows that may be results; None: all that are alive.

        Raises:
            UsageError: the condition is none over metadata.
        """
        totals = self.generation.totals
        some_kind = asked.modality is not None and self.count(asked.modality) < totals.vectors
        if not totals.vectors or not (some_kind or asked.where is not None):
            return None
        return self._selections.of(asked.modality if some_kind else None, asked.where)

    def rows_of(self, modality: Modality | None, where: str | None = None) -> Selection:
        """Returns the rows that are alive, of a kind, and for which a condition is true; None: of any, of none.

        Raises:
            UsageError: the condition is none over metadata.
        """
        if not self._shards:
            return Selection(np.empty(0, np.uint8), 0)
        return self._selections.of(modality, where)

    def scans(self, asked: Asked) -> bool:
        """Tells whether lists are scanned for what is asked: where few rows may be results, all are compared."""
        selected = self.selection(asked)
        rows = self.generation.totals.vectors if selected is None else selected.count
        return rows > 0 and not all_are_compared(asked, rows, can_refine=self.refines)

    def first_scan(self, vectors: NDArray[np.float32], asked: Asked) -> FirstScan | None:
        """Returns what the index finds when it is scanned first for what is asked; None: it is not scanned.

        Of equal rows at the end those with the lowest ids are found. Where rules choose among the rows, so many are
        found that these can choose twice.

        Raises:
            UsageError: as `search`.
        """
        way = self._way(asked, Trace(is_full=False))
        if way is None or way.all_compared:
            return None
        bits, among = (None, None) if way.selected is None else (way.selected.bits, self._looks.lists_of(way.selected))
        reach = ranking.deeper(way.first, way.most) if way.keyed or way.rules.are_any else way.first
        queries, at_once = self.checked(vectors), self._at_once(reach.rows)
        parts = [queries[at : at + at_once] for at in range(0, len(queries), at_once)] or [queries]
        found = [exact_scan(self.index, part, reach, bits, among) for part in parts]
        return FirstScan(reach, queries, *map(np.concatenate, zip(*found, strict=True)))

    def codes_of(self, vectors: NDArray[np.float32], asked: Asked) -> int:
        """Returns how many codes are scanned for what is asked, of all queries together, unless one looks further."""
        way = self._way(asked, Trace(is_full=False))
        if way is None or way.all_compared:
            return 0
        among = None if way.selected is None else self._looks.lists_of(way.selected)
        return self.index.probed(self.checked(vectors), way.first, among)[1]

    def table_of(self, ids: NDArray[np.int64], columns: Sequence[str]) -> "pa.Table":
        """Returns columns of metadata of some rows, in their order (`RowMetadata.table`)."""
        return self._metadata().table(ids, columns)

    def check_column(self, name: str) -> None:
        """Checks that a row has a column (`RowMetadata.check_column`)."""
        self._metadata().check_column(name)

    def _metadata(self) -> RowMetadata:
        return RowMetadata(self.store, self._shards, self._ranges, self._pool, self._kept, check=self._check)

    def _found(self, vectors: NDArray[np.float32], asked: Asked, metadata: RowMetadata, trace: Trace) -> Found:
        queries = self.checked(vectors)
        asked.check()
        at_once = self._at_once(max(GROUPED_ROWS * asked.k, shortlist_of(self.generation, asked)))
        if asked.where is not None:
            at_once = min(at_once, _COMPARED_AT_ONCE)
        parts = [queries[at : at + at_once] for at in range(0, len(queries), at_once)]
        encoded = self.generation.request.has_encoder
        contents = Contents(metadata, self.stored, self._outside, cosines=self.has_cosines, encoded=encoded)
        try:
            return Found.joined([self._part(part, asked, metadata, contents, trace) for part in parts])
        except ReadyFileError as error:
            self.stored.do_without(error)
            return Found.joined([self._part(part, asked, metadata, contents, trace) for part in parts])

    def _at_once(self, rows: int) -> int:
        """How many queries are searched together that look at so many rows each."""
        return max(1, min(_QUERIES_AT_ONCE, _ROWS_AT_ONCE // max(1, min(rows, self.index.ntotal))))

    def _way(self, asked: Asked, trace: Trace) -> Way | None:
        with trace.step("select"):
            selected, rules = self.selection(asked), self._rounded(asked.rules)
            return way_of(self.generation, asked, rules, selected, self._looks.lists_of, can_refine=self.refines)

    def _part(
        self, queries: NDArray[np.float32], asked: Asked, metadata: RowMetadata, contents: Contents, trace: Trace
    ) -> Found:
        if (way := self._way(asked, trace)) is None:
            return Found.nothing(len(queries))
        k, rules, metric, looks = asked.k, way.rules, self.generation.trained.metric, self._looks
        look_at: LookOfMany = looks.at_all if way.all_compared else looks.refined if way.is_refined else looks.by_codes
        distances, ids = look_at(queries, way.first, way.selected, trace)
        with trace.step("rank"):
            looked: FirstLooks | None = None
            if not way.keyed and not rules.are_any:
                looked = ranking.first_looks(
                    distances, ids, k, way.first, way.most, self._dead.are_alive, is_shortlist=way.is_refined
                )
            elif way.keyed:
                soon = ids[:, : GROUPED_ROWS * k]
                metadata.load(soon[(soon != NO_ROW) & self._dead.are_alive(soon)])
            vectors_of = self.stored.remembered(unit=self.has_cosines)

            def begin() -> Chosen:
                return Chosen(rules, metric, partial(metadata.groups, rules.group_by), vectors_of, contents)

            def rank(place: int) -> Ranked:
                def look(reach: Reach) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
                    if reach == way.first:
                        return distances[place], ids[place]
                    wider, wider_ids = look_at(queries[place : place + 1], reach, way.selected, trace)
                    return wider[0], wider_ids[0]

                return ranking.rank(
                    look,
                    (metadata.shown if way.by_picture else metadata.keys) if way.keyed else _themselves,
                    k,
                    way.first,
                    way.most,
                    self._dead.are_alive,
                    is_shortlist=way.is_refined,
                    furthest=rules.furthest(metric),
                    begin=begin if rules.are_any else None,
                )

            if looked is not None and looked.are_last.all():
                found = Found.of_looks(looked)
            else:
                are_last = np.zeros(len(queries), np.bool_) if looked is None else looked.are_last
                found = Found.of(
                    [looked.of(place) if looked and last else rank(place) for place, last in enumerate(are_last)]
                )
        if rules.group:
            metadata.check_column(rules.group_by)
        is_stored = way.is_refined or way.all_compared
        exact = np.full(len(found.ids), self._is_exact or is_stored)
        return replace(found, scores=self._scores(found.scores, stored=is_stored), exact=exact)

    @property
    def refines(self) -> bool:
        """Whether stored vectors are at hand that rank better than codes do."""
        return self.stored.are_quick and not self._is_exact

    @property
    def has_cosines(self) -> bool:
        """Whether scores are cosines."""
        return self.generation.trained.metric == "ip" and self.generation.request.encoder.normalize

    def _scores(self, distances: NDArray[np.float32], *, stored: bool) -> NDArray[np.float32]:
        if self.generation.trained.metric != "ip":
            return distances
        scores, rounding = -distances, _ROUNDING_OF_BYTES if stored else _ROUNDING
        return np.where((scores > 1) & (scores <= 1 + rounding), np.float32(1), scores) if self.has_cosines else scores

    def _rounded(self, rules: Rules) -> Rules:
        """Has equal vectors count as equal, whose cosine is rounded to a little less than 1."""
        if rules.dedup is None or isinstance(rules.dedup, str) or not self.has_cosines:
            return rules
        return replace(rules, dedup=min(rules.dedup, 1 - EQUAL))

    def checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns queries as they are searched with, float32 `(q, d)`: 1 long where the root is normalised.

        Raises:
            UsageError: they have another dimension, are not finite, or have no direction.
        """
        generation = self.generation
        return as_queries(vectors, generation.trained.dim, normalize=generation.request.encoder.normalize)


def _themselves(ids: NDArray[np.int64]) -> Sequence[int]:
    keys: list[int] = ids.tolist()
    return keys
