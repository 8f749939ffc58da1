"""What rows of another root are beside their vectors: all their columns, to be those of rows of a shard."""

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.generations import tables
from transforms.records import split_ids
from transforms.search import ready_metadata
from transforms.search.metadata import joined
from transforms.shards import files
from transforms.shards.files import CORE_COLUMNS, ROWS_PER_GROUP
from transforms.storage.arrow_numbers import array_of
from transforms.tasks.derive.origin import Origin

_INTEGERS: Final = ("part", "width", "height")


def metadata_of(origin: Origin, ids: NDArray[np.int64]) -> pa.Table:
    """Returns the columns of rows, in their order: `CORE_COLUMNS`, then those of the sources, null where one has none.

    Of ready embeddings they are as a search shows them; their version is that of their file.

    Args:
        origin: the root.
        ids: int64 `(n,)`, each once.

    Cost: the row groups of the rows are read, without vectors: of rows that are spread over all shards, all of them.

    Raises:
        PixdexError: a shard, or what stands beside ready embeddings, is missing, damaged or changed.
    """
    order = np.argsort(ids, kind="stable")
    numbers, rows = split_ids(ids[order])
    shards = {shard.shard: shard for shard in tables.shards_of(origin.store, origin.generation)}
    parts = []
    for number in np.unique(numbers).tolist():
        shard, mine = shards[number], rows[numbers == number]
        if shard.ready is not None:
            known = ready_metadata.read_metadata(number, shard.ready, mine)
            names = [name for name in known[0] if name != "id"]
            table = pa.table({name: pa.array([row[name] for row in known]) for name in names})
            parts.append(table.append_column("version", pa.array([shard.ready.version] * len(mine))))
        else:
            assert shard.embeddings is not None
            groups = np.unique(mine // ROWS_PER_GROUP)
            read = pa.concat_tables(files.read_groups(origin.store, shard.embeddings, groups.tolist()))
            places = np.searchsorted(groups, mine // ROWS_PER_GROUP) * ROWS_PER_GROUP + mine % ROWS_PER_GROUP
            parts.append(read.take(array_of(places)))
    own = dict.fromkeys(name for part in parts for name in part.column_names if name not in (*CORE_COLUMNS, "id"))
    table = joined(parts, (*CORE_COLUMNS, *own)).take(array_of(np.argsort(order, kind="stable")))
    return pa.table({name: _typed(name, table[name]) for name in table.column_names})


def _typed(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in the type that it has in any shard; one without a value is of strings."""
    if name in _INTEGERS:
        return column.cast(pa.int32())
    return column.cast(pa.string()) if name in CORE_COLUMNS or pa.types.is_null(column.type) else column
