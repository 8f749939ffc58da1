"""Vectors that rows have already: those of items of which only metadata changed, or a part of what is embedded."""

import logging
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.generations import tables
from transforms.records import FileReference
from transforms.runs.run import Run
from transforms.shards import files
from transforms.sources import items
from transforms.tasks.embed.shard_rows import ShardRows

_ROWS_AT_ONCE: Final = 8 * files.ROWS_PER_GROUP

_log = logging.getLogger(__name__)


def carry(run: Run, rows: ShardRows) -> None:
    """Fills in the vectors that rows keep, with the sizes of their pictures: as the generation before has them.

    Those of a shard that is missing or damaged are left to the encoder.

    Cost: of each shard that has one of them, the row groups of 4,096 rows that they lie in are read, eight at a time.
    """
    if items.CARRIED not in rows.table.column_names:
        return
    shards, places = _origins(rows)
    base = run.base
    assert base is not None
    of_base = {row["shard"]: row for row in tables.shard_rows(run.base_store, base)}
    for number in np.unique(shards[shards >= 0]).tolist():
        file, of_shard = tables.file_of(of_base[number]), np.flatnonzero(shards == number)
        parts = places[of_shard] // _ROWS_AT_ONCE
        try:
            for part in np.unique(parts).tolist():
                mine = of_shard[parts == part]
                _fill(run, rows, mine, file, places[mine])
        except PixdexError as error:
            _log.warning("%s: what it held is embedded again", error)
            continue
        rows.is_carried[of_shard] = True


def _fill(run: Run, rows: ShardRows, mine: NDArray[np.int64], file: FileReference, places: NDArray[np.int64]) -> None:
    """Fills some rows from places of a shard."""
    vectors = files.read_rows(run.base_store, file, places)
    is_picture = mine < rows.counts["image"]
    if is_picture.any():
        sizes = files.read_columns(run.base_store, file, places[is_picture], ("width", "height"))
        for side, name in enumerate(("width", "height")):
            rows.sizes[mine[is_picture], side] = pc.fill_null(sizes[name], 0).to_numpy()
    rows.vectors[mine] = vectors


def _origins(rows: ShardRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The shard and the row that has the vector of each row, int64 `(rows,)` both; -1 where none has."""
    carried = rows.table[items.CARRIED]
    of_item = {name: _numbers(carried, name)[rows.item] for name in ("shard", "image", "text", "keyword")}
    kinds = np.repeat(np.arange(len(rows.counts)), list(rows.counts.values()))
    places = np.choose(kinds, [of_item[kind] for kind in rows.counts])
    places = np.where(places >= 0, places + rows.part, -1)
    return np.where(places >= 0, of_item["shard"], -1), places


def _numbers(carried: pa.ChunkedArray, name: str) -> NDArray[np.int64]:
    values = pc.fill_null(pc.struct_field(carried, name), -1).cast(pa.int64())
    return np.asarray(values.to_numpy(), np.int64)
