"""What a row is, beside its vector: key, URI, caption, columns; and the results of a search that are made of it."""

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.records import MODALITIES, ROW_BITS, ROWS_PER_SHARD, FileReference, VectorRange, split_ids
from transforms.shards import files
from transforms.storage import parquet_files
from transforms.storage.store import Store

READERS: Final = 8
"""Shards whose metadata is read at once."""

KEY_OF: Final = "key of"
"""Marks the group of a row that is in none."""

_OWN: Final = frozenset({"id", *files.CORE_COLUMNS})


@dataclass(frozen=True)
class Hit:
    """One result.

    Attributes:
        rank: from 1.
        score: inner product, higher is nearer, or squared L2 or L1 distance, lower is nearer.
        id, key, uri, modality, part, caption: of the row that was found; the best one of its key.
        columns: the source's own columns.
        exact: whether the score is that of the vector as it is stored, and not of its code.
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

    @property
    def place(self) -> str:
        """Where it is, for a person: its URI, or its key where that says which row of the URI it is."""
        return self.key if self.key.startswith(f"{self.uri}#") else self.uri


class RowMetadata:
    """What is known of rows, read once a search."""

    def __init__(
        self, store: Store, table: dict[int, dict[str, Any]], pool: ThreadPoolExecutor, *, check: bool = False
    ) -> None:
        """Knows none yet; `table` is the generation's table of shards, by their numbers, `pool` has threads that read.

        With `check`, a shard is read whole before the first of its rows is, and held against its checksum.
        """
        self._store, self._pool, self._check = store, pool, check
        self._shards = table
        self._rows: dict[int, dict[str, Any]] = {}

    def load(self, ids: NDArray[np.int64]) -> None:
        """Reads the rows that are not known yet, several shards at once."""
        wanted = np.setdiff1d(ids, np.fromiter(self._rows, np.int64, len(self._rows)))
        numbers, rows = split_ids(wanted)
        by_shard = [(int(number), rows[numbers == number]) for number in np.unique(numbers)]
        # What is told without reading a file is not worth a thread.
        far = [task for task in by_shard if self._reads_a_file(task[0])]
        near = [task for task in by_shard if not self._reads_a_file(task[0])]
        for rows_of_shard in (
            *self._pool.map(lambda task: self._read(*task), far),
            *(self._read(*task) for task in near),
        ):
            self._rows.update((row["id"], row) for row in rows_of_shard)

    def keys(self, ids: NDArray[np.int64]) -> Sequence[str]:
        """Returns the key of each of these rows."""
        self.load(ids)
        return [self._rows[row]["key"] for row in ids.tolist()]

    def groups(self, column: str, ids: NDArray[np.int64]) -> Sequence[Hashable]:
        """Returns what each of these rows has in a column, of pixdex's or of the source; where nothing, its key."""
        self.load(ids)
        rows = [self._rows[row] for row in ids.tolist()]
        return [(KEY_OF, row["key"]) if row.get(column) in (None, "") else str(row[column]) for row in rows]

    def has_column(self, column: str) -> bool:
        """Tells whether a row that was looked at has a column, or else any row of any shard."""
        if any(column in row for row in self._rows.values()):
            return True
        first = np.zeros(1, np.int64)
        return any(column in self._read(number, first)[0] for number in self._shards)

    def hit(self, rank: int, score: float, row: int, *, exact: bool = False) -> Hit:
        """Returns a result; the row must be loaded."""
        metadata = self._rows[row]
        return Hit(
            rank=rank,
            score=score,
            id=row,
            key=metadata["key"],
            uri=metadata["uri"],
            modality=metadata["modality"],
            part=metadata["part"],
            caption=metadata["caption"],
            columns={name: value for name, value in metadata.items() if name not in _OWN},
            exact=exact,
        )

    def _reads_a_file(self, number: int) -> bool:
        ready = self._shards.get(number, {}).get("ready")
        return not ready or ready["format"] != "npy" or bool(ready["metadata"])

    def _read(self, number: int, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        shard = self._shards.get(number)
        # Rejected rows of ready embeddings keep their place: ids count them too.
        ready = VectorRange(**shard["ready"]) if shard and shard.get("ready") else None
        if shard is None or rows.max() >= (ready.stop - ready.start if ready else shard["rows"]):
            raise PixdexError(
                f"{self._store.url}: the index names row {rows.max()} of shard {number}, which the generation does not "
                "hold: restore the index from a backup, or build into a new root"
            )
        if ready is not None:
            from transforms.search import ready_metadata  # noqa: PLC0415 - imports all of pyarrow's functions

            return ready_metadata.read_metadata(number, ready, rows)
        reference = FileReference(shard["path"], shard["bytes"], shard["checksum"])
        if self._check:
            self._store.check(reference)
        table = files.read_metadata(self._store, reference, rows)
        with parquet_files.making_sense_of(self._store, reference.path):
            metadata: list[dict[str, Any]] = table.to_pylist()
            _check_rows(metadata, number, rows)
        return metadata


def _check_rows(metadata: Sequence[dict[str, Any]], shard: int, rows: NDArray[np.int64]) -> None:
    """Checks that rows are those that were asked for, and have what every row has: no checksum covers a footer.

    Raises:
        ValueError: they are not.
    """
    wanted = ((shard << ROW_BITS) + rows).tolist()
    if [row.get("id") for row in metadata] != wanted:
        raise ValueError("its ids are not those of its rows")
    for row in metadata:
        named = isinstance(row.get("key"), str) and isinstance(row.get("uri"), str)
        placed = row.get("modality") in MODALITIES and isinstance(row.get("part"), int)
        if not (named and placed and isinstance(row.get("caption"), str | None)):
            raise ValueError(f"row {row['id'] & (ROWS_PER_SHARD - 1)} has no key, URI, modality or part")
