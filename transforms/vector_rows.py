"""The vectors of a shard as the index takes them, some rows at a time: what sampling and adding read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms import parquet_files
from transforms.records import EncoderSettings, ShardMarker, row_ids
from transforms.shards import EMBEDDING
from transforms.store import Store

BATCH_ROWS: Final = 4096
"""Rows read, and encoded, at once; batches start at multiples of it, so that they are the same however work is cut."""

Choose = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Tells which of some ids are wanted."""


@dataclass(frozen=True)
class VectorBatch:
    """Rows of a shard: `ids` int64 `(n,)`, ascending, and `vectors` float32 `(n, d)`, finite, as they are indexed."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]


def read_batches(
    store: Store, shard: ShardMarker, encoder: EncoderSettings, choose: Choose | None = None
) -> Iterator[VectorBatch]:
    """Yields the rows of a shard in order, those of each run of 4,096 stored rows together.

    Args:
        store: the root.
        shard: which one; a shard without rows yields nothing.
        encoder: says whether ready embeddings are to be normalised; those of own shards are already.
        choose: which rows are wanted; default: all. Unwanted ones cost a read, and no arithmetic.

    Memory: one batch, and what a parquet reader keeps of a row group.
    """
    if shard.embeddings is None:
        return
    with parquet_files.opened(store, shard.embeddings) as file:
        first = 0
        for group in range(file.num_row_groups):
            column = file.read_row_group(group, columns=[EMBEDDING])[EMBEDDING].combine_chunks()
            vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
            ids = row_ids(shard.shard, first + len(column))[first:]
            first += len(column)
            if choose is not None:
                wanted = choose(ids)
                ids, vectors = ids[wanted], vectors[wanted]
            if len(ids):
                yield VectorBatch(ids, vectors)
