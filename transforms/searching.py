"""Searches a generation: opens its merged index, ranks what it finds, and tells what each found row is.

Needs faiss, numpy and pyarrow only. The index is mapped, not read: opening is instant whatever its size, and memory is
what the probed lists take in the page cache.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms import generations, layout, ranking, shards
from transforms.errors import PixdexError, UsageError
from transforms.ranking import NO_ROW, Ranked, Reach
from transforms.records import MODALITIES, ROWS_PER_SHARD, FileReference, Generation, Modality, split_ids
from transforms.store import Store, missing

_READERS = 8
"""Shards whose metadata is read at once."""

_GROUPED_ROWS = 3
"""Rows fetched for each result when keys have several: most searches then need one look."""

_OWN: Final = frozenset({"id", *shards.CORE_COLUMNS})


@dataclass(frozen=True)
class Hit:
    """One result.

    Attributes:
        rank: from 1.
        score: inner product, higher is nearer, or squared L2 distance, lower is nearer.
        id, key, uri, modality, part, caption: of the row that was found; the best one of its key.
        columns: the source's own columns.
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


class Searcher:
    """A generation, open for searching. Threads may share it."""

    def __init__(self, store: Store, generation: Generation) -> None:
        """Opens the merged index and the table of shards.

        Raises:
            PixdexError: a file is missing or is not the one that the generation names.
        """
        self.store = store
        self.generation = generation
        self._index = _open_index(store, generation)
        table = generations.read_table(store, generation.tables.shards)
        self._shards = {row["shard"]: row for row in table.to_pylist() if row["path"]}
        self._bitmaps: dict[Modality, NDArray[np.uint8]] = {}

    @classmethod
    def open(cls, store: Store, number: int | None = None) -> "Searcher":
        """Opens the current generation of a root, or the one with this number.

        Raises:
            UsageError: there is none.
            PixdexError: it is damaged.
        """
        return cls(store, open_generation(store, number))

    def count(self, modality: Modality) -> int:
        """Returns how many vectors of a modality the generation holds."""
        totals = self.generation.totals
        return {"image": totals.images, "text": totals.texts, "keyword": totals.keywords}[modality]

    def search(
        self, vectors: NDArray[np.float32], k: int, nprobe: int | None = None, modality: Modality | None = None
    ) -> list[list[Hit]]:
        """Finds the nearest items of every query, each item once, ties by id.

        Args:
            vectors: float32 `(q, d)`; their length does not matter when the root is normalised.
            k: results a query; fewer come back only when there are no more.
            nprobe: lists probed. None probes as many as the trained index says, and more where they hold fewer than `k`
                items. More find more and cost proportionally.
            modality: only rows of this kind; costs a quarter more where the generation holds others too.

        Raises:
            UsageError: vectors of another dimension or without a direction, or `k` or `nprobe` below 1.
        """
        queries = self._checked(vectors)
        for name, value in (("k", k), ("nprobe", nprobe)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}: take 1 or more")
        trained, totals = self.generation.trained, self.generation.totals
        rows = totals.vectors if modality is None else self.count(modality)
        if not len(queries) or not rows:
            return [[] for _ in queries]
        # An item has at most one picture and one text: only keywords, and kinds mixed, give a key several rows.
        grouped = totals.vectors > totals.embedded and modality not in ("image", "text")
        selected = modality if rows < totals.vectors else None
        first = Reach(
            min((_GROUPED_ROWS if grouped else 1) * k + 1, rows), min(nprobe or trained.nprobe, trained.nlist)
        )
        most = Reach(rows, first.nprobe if nprobe else trained.nlist)
        metadata = _Metadata(self.store, self._shards)
        keys_of = metadata.keys if grouped else _themselves
        distances, ids = self._look(queries, first, selected)
        if grouped:
            metadata.load(ids[ids != NO_ROW])

        def rank(place: int) -> Ranked:
            def look(reach: Reach) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
                if reach == first:
                    return distances[place], ids[place]
                wider, found = self._look(queries[place : place + 1], reach, selected)
                return wider[0], found[0]

            return ranking.rank(look, keys_of, k, first, most)

        ranked = [rank(place) for place in range(len(queries))]
        metadata.load(np.concatenate([one.ids for one in ranked]))
        sign = -1.0 if trained.metric == "ip" else 1.0
        return [
            [
                metadata.hit(number, sign * float(distance), int(row))
                for number, (distance, row) in enumerate(zip(one.distances, one.ids, strict=True), start=1)
            ]
            for one in ranked
        ]

    def _checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
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
            return queries
        # Scaled first, so that the squares of very large or very small components stay numbers.
        largest = np.abs(queries).max(axis=1, keepdims=True)
        if not largest.all():
            raise UsageError("a query vector is zero: it has no direction that could be searched")
        exact = queries.astype(np.float64) / largest
        return np.ascontiguousarray(exact / np.linalg.norm(exact, axis=1, keepdims=True), np.float32)

    def _look(
        self, queries: NDArray[np.float32], reach: Reach, modality: Modality | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        # Whatever faiss keeps a pointer to stays bound to a name until the search is over.
        parameters = faiss.SearchParametersIVF(nprobe=reach.nprobe)
        bitmap = selector = None
        if modality is not None:
            bitmap = self._bitmap(modality)
            selector = faiss.IDSelectorBitmap(bitmap)
            parameters.sel = selector
        outer = parameters
        if isinstance(self._index, faiss.IndexPreTransform):
            outer = faiss.SearchParametersPreTransform(index_params=parameters)
        scores, ids = self._index.search(queries, reach.rows, params=outer)
        del outer, parameters, selector, bitmap
        return (-scores if self.generation.trained.metric == "ip" else scores), ids

    def _bitmap(self, modality: Modality) -> NDArray[np.uint8]:
        """A bit for each id, set where the row is of this kind: 8 KiB a shard. Rows of one kind are consecutive."""
        if modality not in self._bitmaps:
            bits = np.zeros((max(self._shards) + 1, ROWS_PER_SHARD // 8), np.uint8)
            for number, shard in self._shards.items():
                counts = [shard["images"], shard["texts"], shard["keywords"]]
                start = sum(counts[: MODALITIES.index(modality)])
                selected = np.zeros(ROWS_PER_SHARD, np.bool_)
                selected[start : start + counts[MODALITIES.index(modality)]] = True
                bits[number] = np.packbits(selected, bitorder="little")
            self._bitmaps[modality] = bits.reshape(-1)
        return self._bitmaps[modality]


def open_generation(store: Store, number: int | None = None) -> Generation:
    """Returns the current generation, or the one with this number.

    Raises:
        UsageError: there is none.
    """
    published = generations.numbers(store)
    if store.local is not None and not store.local.is_dir():
        raise UsageError(f"--root {store.local}: there is no such folder; check its spelling")
    root = store.local or store.url
    if not published:
        raise UsageError(f"--root {root}: no generation is there yet; make one with: pixdex build --root {root} …")
    if number is None:
        number = published[-1]
    elif number not in published:
        raise UsageError(f"--root {root}: there is no generation {number}, only {', '.join(map(str, published))}")
    return store.read_record(layout.generation(number), Generation)


def _open_index(store: Store, generation: Generation) -> Any:  # faiss is untyped
    reference = generation.index
    if store.local is None:
        index = faiss.deserialize_index(np.frombuffer(store.read(reference.path), np.uint8))
    else:
        file = store.local_path(reference.path)
        if not file.is_file():
            raise missing(store, reference.path)
        if (size := file.stat().st_size) != reference.bytes:
            raise PixdexError(
                f"{file} has {size} bytes, generation {generation.generation} names {reference.bytes}: "
                "restore it from a backup, or build into a new root"
            )
        try:
            index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise PixdexError(f"{file} is not a readable faiss index ({_last_line(error)}): restore it") from error
    if index.ntotal != generation.totals.vectors:
        raise PixdexError(
            f"{store.full(reference.path)} holds {index.ntotal} vectors, generation {generation.generation} names "
            f"{generation.totals.vectors}: restore it from a backup, or build into a new root"
        )
    return index


class _Metadata:
    """What is known of rows, read once a search."""

    def __init__(self, store: Store, table: dict[int, dict[str, Any]]) -> None:
        self._store = store
        self._shards = table
        self._rows: dict[int, dict[str, Any]] = {}

    def load(self, ids: NDArray[np.int64]) -> None:
        """Reads the rows that are not known yet, several shards at once."""
        wanted = np.setdiff1d(ids, np.fromiter(self._rows, np.int64, len(self._rows)))
        numbers, rows = split_ids(wanted)
        by_shard = [(int(number), rows[numbers == number]) for number in np.unique(numbers)]
        with ThreadPoolExecutor(_READERS) as pool:
            for found in pool.map(lambda task: self._read(*task), by_shard):
                self._rows.update((row["id"], row) for row in found)

    def keys(self, ids: NDArray[np.int64]) -> Sequence[str]:
        self.load(ids)
        return [self._rows[row]["key"] for row in ids.tolist()]

    def hit(self, rank: int, score: float, row: int) -> Hit:
        found = self._rows[row]
        return Hit(
            rank=rank,
            score=score,
            id=row,
            key=found["key"],
            uri=found["uri"],
            modality=found["modality"],
            part=found["part"],
            caption=found["caption"],
            columns={name: value for name, value in found.items() if name not in _OWN},
        )

    def _read(self, number: int, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        shard = self._shards.get(number)
        if shard is None or rows.max() >= shard["rows"]:
            raise PixdexError(
                f"{self._store.url}: the index names row {rows.max()} of shard {number}, which the generation does not "
                "hold: restore the index from a backup, or build into a new root"
            )
        reference = FileReference(shard["path"], shard["bytes"], shard["checksum"])
        found: list[dict[str, Any]] = shards.read_metadata(self._store, reference, rows).to_pylist()
        return found


def _themselves(ids: NDArray[np.int64]) -> Sequence[int]:
    own: list[int] = ids.tolist()
    return own


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]
