"""The training sample: a row is in it iff a seeded hash of its id lies under a threshold.

So the sample is uniform, the same however work is bundled, and never the first N rows. Lower thresholds of the same
hash cut it into parts: a *pilot* of bounded size, for what needs few vectors; the *rest* of what the lists are trained
on; and *held-out* rows, which nothing is trained on. It is stored block by block in the list format, a list for each
part, with the vector for a code, so that each part is one range of bytes.
"""

import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.lists.format import Seal
from transforms.index.lists.opened import opened_lists
from transforms.index.threads import each_with_one_thread
from transforms.index.training.figures import Shares
from transforms.index.training.vector_codes import from_codes, to_codes, write_vectors
from transforms.markers import ShardMarker
from transforms.records import EncoderSettings, FileReference, row_ids
from transforms.shards.vectors import Choose, read_batches
from transforms.storage.store import Store

PILOT_PART, REST_PART, HELD_OUT_PART = range(3)

_PARTS = 3
_READERS: Final = 8
"""Files that are asked for sizes at once."""

_BLOCK_ROWS: Final = 16_384
"""Vectors that are made of their codes at once."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def in_sample(ids: NDArray[np.int64], seed: int, share: float) -> NDArray[np.bool_]:
    """Tells which ids are in the sample: bool `(n,)`.

    The hash is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    if share >= 1:
        return np.ones(len(ids), np.bool_)
    with np.errstate(over="ignore"):
        mixed = ids.astype(np.uint64) + _GOLDEN * np.uint64((seed + 1) % (1 << 64))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
        mixed ^= mixed >> np.uint64(31)
    return mixed < np.uint64(share * 2**64)


def part_of(ids: NDArray[np.int64], seed: int, shares: Shares) -> NDArray[np.int64]:
    """Returns the part of every sampled id: int64 `(n,)`."""
    part = np.full(len(ids), HELD_OUT_PART)
    part[in_sample(ids, seed, shares.trained)] = REST_PART
    part[in_sample(ids, seed, shares.pilot)] = PILOT_PART
    return part


def write_sample(
    out: BinaryIO,
    store: Store,
    shards: Sequence[ShardMarker],
    encoder: EncoderSettings,
    *,
    seed: int,
    shares: Shares,
    alive: Choose | None = None,
) -> tuple[int, Seal]:
    """Writes the sampled rows of a block's shards as an `.ivf` file with a list a part.

    Vectors are stored as float16 where they are normalised: training does not see the difference. The encoder's number
    of threads read a shard each. Where `alive` is given, only rows that it chooses can be in the sample.

    Returns:
        How many rows these are, and the seal of the file.

    Memory: the codes of the block's sampled rows, 32 bytes a row, and three batches a thread; the codes twice where
    rows of the block were rejected.
    """
    sampled = functools.partial(in_sample, seed=seed, share=shares.sampled)

    def chosen(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return sampled(ids) if alive is None else sampled(ids) & alive(ids)

    room = [int(np.count_nonzero(chosen(row_ids(shard.shard, shard.numbered_rows)))) for shard in shards]
    starts = [0, *itertools.accumulate(room)]
    ids = np.empty(starts[-1], np.int64)
    codes = np.empty((starts[-1], (2 if encoder.normalize else 4) * encoder.dim), np.uint8)

    def take(shard: ShardMarker, start: int) -> NDArray[np.int64]:
        stop = start
        for batch in read_batches(store, shard, encoder, choose=chosen):
            first, stop = stop, stop + len(batch.ids)
            ids[first:stop] = batch.ids
            codes[first:stop] = to_codes(batch.vectors, half=encoder.normalize)
        return np.arange(start, stop)

    with each_with_one_thread(encoder.threads) as pool:
        taken = np.concatenate([np.empty(0, np.int64), *pool.map(take, shards, starts[:-1])])
    if len(taken) < len(ids):
        ids, codes = ids[taken], codes[taken]
    seal = write_vectors(out, list_nos=part_of(ids, seed, shares), codes=codes, ids=ids, nlist=_PARTS)
    return len(ids), seal


def read_part(store: Store, file: FileReference, part: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Reads a part of a block's stored sample: ids int64 `(n,)` ascending, and codes uint8 `(n, …)`; both once."""
    with opened_lists(store, file) as lists:
        sampled = lists.read(range(part, part + 1))
    ids_at = sampled.stored.rows * sampled.code_size
    ids = np.frombuffer(sampled.body[ids_at:].tobytes(), "<i8").astype(np.int64, copy=False)
    return ids, sampled.body[:ids_at].reshape(-1, sampled.code_size)


def read_parts(
    store: Store, files: Sequence[FileReference], parts: range, dim: int, workers: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Reads parts of the stored sample: ids int64 `(n,)` ascending, and vectors float32 `(n, dim)` in their order.

    Memory: the vectors, and the codes of a part of one file; the vectors twice where their ids are mixed.
    `workers` threads convert them.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        sizes = list(pool.map(lambda file: _rows_of(store, file, parts), files))
    ids, vectors = np.empty(sum(sizes), np.int64), np.empty((sum(sizes), dim), np.float32)
    start = 0
    for file, part in itertools.product(files, parts):
        some_ids, codes = read_part(store, file, part)
        ids[start : start + len(codes)] = some_ids
        for first in range(0, len(codes), _BLOCK_ROWS):
            block = codes[first : first + _BLOCK_ROWS]
            vectors[start : start + len(block)] = from_codes(block, dim, workers)
            start += len(block)
    if (np.diff(ids) < 0).any():  # their order must not tell how they were cut into blocks
        order = np.argsort(ids)
        ids, vectors = ids[order], vectors[order]
    return ids, vectors


def _rows_of(store: Store, file: FileReference, parts: range) -> int:
    with opened_lists(store, file) as lists:
        return lists.sizes(parts).rows
