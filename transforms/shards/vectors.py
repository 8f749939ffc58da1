"""The vectors of a shard as the index takes them, some rows at a time: what sampling and adding read."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.markers import ShardMarker
from transforms.ready_range import VectorRange
from transforms.records import EncoderSettings, FileReference, row_ids
from transforms.shards import ready_vectors
from transforms.shards.files import EMBEDDING
from transforms.shards.read_ahead import read_ahead
from transforms.storage import parquet_files
from transforms.storage.store import Store

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

    A thread reads and converts the next batch while the caller works on this one; it ends with the iterator.

    Args:
        store: the root.
        shard: which one; a shard without rows yields nothing. Rejected rows of ready embeddings are left out.
        encoder: says whether ready embeddings are to be normalised; those of own shards are already.
        choose: which rows are wanted; default: all. Unwanted ones cost a read, and no arithmetic. It is called from the
            reading thread.

    Memory: three batches, and what a parquet reader keeps of a row group.

    Raises:
        PixdexError: a file is missing, damaged, or not the one that was planned with.
    """
    if shard.rows == 0:
        return
    if shard.ready is not None:
        yield from read_ahead(_ready_batches(shard, shard.ready, encoder, choose))
    elif shard.embeddings is not None:
        yield from read_ahead(_own_batches(store, shard.shard, shard.embeddings, choose))


def _ready_batches(
    shard: ShardMarker, ready: VectorRange, encoder: EncoderSettings, choose: Choose | None
) -> Generator[VectorBatch, None, None]:
    ids = row_ids(shard.shard, ready.rows)
    all_sound = None
    if shard.rejected and ready.text_uri is not None:
        all_sound = ready_vectors.sound_rows(ready, encoder.dim, normalize=encoder.normalize)
    first = 0
    for stored in ready_vectors.pieces(ready, encoder.dim):
        kept, vectors = ids[first : first + len(stored)], stored
        first += len(stored)
        if choose is not None:
            wanted = choose(kept)
            kept, vectors = kept[wanted], vectors[wanted]
        if shard.rejected:
            if all_sound is None:
                _, sound = ready_vectors.soundness(vectors, normalize=encoder.normalize)
            else:
                sound = all_sound[kept - ids[0]]
            kept, vectors = kept[sound], vectors[sound]
        if len(kept):
            yield VectorBatch(kept, ready_vectors.as_indexed(vectors, normalize=encoder.normalize))


def _own_batches(
    store: Store, shard: int, embeddings: FileReference, choose: Choose | None
) -> Generator[VectorBatch, None, None]:
    with parquet_files.opened(store, embeddings) as file:
        first = 0
        for group in range(file.num_row_groups):
            column = file.read_row_group(group, columns=[EMBEDDING])[EMBEDDING].combine_chunks()
            vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
            ids = row_ids(shard, first + len(column))[first:]
            first += len(column)
            if choose is not None:
                wanted = choose(ids)
                ids, vectors = ids[wanted], vectors[wanted]
            if len(ids):
                yield VectorBatch(ids, vectors)
