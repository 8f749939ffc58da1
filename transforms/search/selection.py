"""Rows that a search may return: of one kind, of a condition over their metadata, and alive; as a bit for each id."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.generations import tables
from transforms.generations.tombstones import Tombstones
from transforms.index.wanted_lists import are_set
from transforms.nearest import no_column
from transforms.ready_range import VectorRange
from transforms.records import MODALITIES, ROWS_PER_SHARD, Modality
from transforms.shards.files import EMBEDDING
from transforms.storage import parquet_files
from transforms.storage.store import Store

_ALL_LISTED: Final = 1 << 20
_KEPT: Final = 16
"""Selections that are kept: 8 KiB a shard each."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Some rows: `bits`, uint8, has a bit for each id up to the last that is among them or not; `count` is how many."""

    bits: NDArray[np.uint8]
    count: int

    def ids(self) -> NDArray[np.int64]:
        """Returns their ids, int64 `(count,)`, ascending. Memory: of each 64 Mi bits a byte a bit."""
        parts = [np.empty(0, np.int64)]
        step = 8 << 20
        for start in range(0, len(self.bits), step):
            some = np.flatnonzero(np.unpackbits(self.bits[start : start + step], bitorder="little"))
            parts.append(some.astype(np.int64) + 8 * start)
        return np.concatenate(parts)

    def has(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tells which of some ids are among them, bool `(n,)`."""
        return are_set(self.bits, ids) if len(self.bits) else np.zeros(len(ids), np.bool_)

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        """Returns so many of their ids, or all where there are no more, drawn at random: int64 `(n,)`, ascending.

        Cost: of more than a million rows, ids are guessed until enough are among them, so that the bits are all that
        is in memory.
        """
        rng = np.random.default_rng(seed)
        if self.count <= max(_ALL_LISTED, 2 * count):
            ids = self.ids()
            return np.sort(rng.choice(ids, min(count, len(ids)), replace=False))
        drawn = np.empty(0, np.int64)
        while len(drawn) < count:
            guessed = rng.integers(0, 8 * len(self.bits), 4 * count, np.int64)
            new = guessed[self.has(guessed) & ~np.isin(guessed, drawn)]
            drawn = np.concatenate([drawn, new[np.sort(np.unique(new, return_index=True)[1])]])
        return np.sort(drawn[:count])


class Selections:
    """Makes selections of a generation, and keeps the last. Threads may share it; one makes, the others wait."""

    def __init__(
        self, store: Store, shards: Mapping[int, dict[str, Any]], dead: Tombstones, pool: ThreadPoolExecutor
    ) -> None:
        """Takes the rows of the table of shards, what is dead, and threads that read."""
        self._store, self._shards, self._dead, self._pool = store, shards, dead, pool
        self._made: OrderedDict[tuple[Modality | None, str | None], Selection] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, modality: Modality | None, where: str | None) -> Selection:
        """Returns the rows that are alive, of a kind, and for which a condition is true; None: of any, of none.

        Cost: of a kind 20 microseconds a shard. A condition reads the columns that it names of every shard, once for a
        searcher: about 10 ms for 65,536 rows and a column of short strings.

        Raises:
            UsageError: it is no condition, or no row has a column that it names.
            PixdexError: a shard is missing or damaged.
        """
        with self._lock:
            asked = modality, where
            if asked not in self._made:
                self._made[asked] = self._make(modality, where)
                if len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(asked)
            return self._made[asked]

    def _make(self, modality: Modality | None, where: str | None) -> Selection:
        bits = np.zeros((max(self._shards) + 1, ROWS_PER_SHARD // 8), np.uint8)
        matched = {} if where is None else self._matched(where)
        for number, shard in self._shards.items():
            chosen = np.zeros(ROWS_PER_SHARD, np.bool_)
            chosen[rows_of(shard, modality)] = True
            if where is not None:
                rows = matched[number]
                chosen[: len(rows)] &= rows
            bits[number] = np.packbits(chosen, bitorder="little")
        inside = self._dead.shards < len(bits)  # tombstones may outlive the shards that are left
        bits[self._dead.shards[inside]] &= ~self._dead.bits[inside]
        flat = bits.reshape(-1)
        return Selection(flat, int(np.bitwise_count(flat).sum(dtype=np.int64)))

    def _matched(self, where: str) -> dict[int, NDArray[np.bool_]]:
        """For each shard which of its rows a condition is true for."""
        from transforms.search.where import Condition  # noqa: PLC0415 - its parser takes a fifth of a second to import

        condition = Condition(where)
        wanted = {name.lower() for name in condition.columns}

        def look(number: int) -> tuple[NDArray[np.bool_], set[str]]:
            columns, rows = self._columns(number, wanted)
            return condition.matches(columns, rows), {*columns}

        found = dict(zip(self._shards, self._pool.map(look, self._shards), strict=True))
        there = {name.lower() for _, names in found.values() for name in names}
        if missing := sorted(name for name in condition.columns if name.lower() not in there):
            names = dict.fromkeys(name for number in self._shards for name in self._names(number))
            raise UsageError(f"{self._store.url} {no_column(missing[0], [*names])}")
        return {number: rows for number, (rows, _) in found.items()}

    def _names(self, number: int) -> list[str]:
        """The names of the columns of a shard; those that each row has come first."""
        shard = self._shards[number]
        if (ready := tables.range_of(shard)) is not None:
            from transforms.search import ready_metadata  # noqa: PLC0415 - as below

            return [name for row in ready_metadata.read_metadata(number, ready, np.zeros(1, np.int64)) for name in row]
        with parquet_files.opened(self._store, tables.file_of(shard)) as file:
            return [name for name in file.schema_arrow.names if name != EMBEDDING]

    def _columns(self, number: int, wanted: set[str]) -> tuple[dict[str, pa.Array], int]:
        """The columns of a shard whose names, in small letters, are wanted; and how many rows it has."""
        shard = self._shards[number]
        ready = tables.range_of(shard)
        if ready is not None:
            from transforms.search import ready_metadata  # noqa: PLC0415 - few roots have ready embeddings

            count = ready.rows
            rows = ready_metadata.read_metadata(number, ready, np.arange(count)) if wanted else []
            names = [name for name in (rows[0] if rows else ()) if name.lower() in wanted]
            return {name: pa.array([row[name] for row in rows]) for name in names}, count
        with parquet_files.opened(self._store, tables.file_of(shard)) as file:
            names = [name for name in file.schema_arrow.names if name.lower() in wanted and name != EMBEDDING]
            table = file.read(columns=names)
            return {name: table[name].combine_chunks() for name in names}, file.metadata.num_rows


def rows_of(shard: Mapping[str, Any], modality: Modality | None) -> slice:
    """Returns the rows of a shard that are of a kind; kinds stand one by one, of ready embeddings with the rejected."""
    return kind_slice(tables.range_of(shard), (shard["images"], shard["texts"], shard["keywords"]), modality)


def kind_slice(ready: VectorRange | None, counts: Sequence[int], modality: Modality | None) -> slice:
    """Returns the same of its range of ready embeddings, if it has one, or of its rows of each of `MODALITIES`."""
    if ready is not None:
        kinds = [part.modality for part in ready.of_each_file]
        counts = [ready.items if kind in kinds else 0 for kind in MODALITIES]
    if modality is None:
        return slice(0, sum(counts))
    place = MODALITIES.index(modality)
    return slice(sum(counts[:place]), sum(counts[: place + 1]))
