"""The training sample: a row is in it iff a seeded hash of its id lies under a threshold.

So the sample is uniform, the same however work is bundled, and never the first N rows. It is stored block by block in
the list format, one list, with the raw vector (float32) for a code.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transforms.index.choose import IndexKey
from transforms.index.list_file import ListFile
from transforms.index.list_writer import write_lists
from transforms.records import FileReference, row_ids
from transforms.shards import read_vectors
from transforms.store import Store

POINTS_PER_LIST = 50
"""Training vectors a list; faiss asks for 39 to 256. The sample, and the time of training, go with it."""

MIN_SAMPLE = 65_536
"""Enough for the codebooks of a product quantizer (256 points for each of 256 centroids)."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def sample_fraction(key: IndexKey, rows: int) -> float:
    """Returns the share of the rows, 0 to 1, that training needs."""
    return min(1.0, max(POINTS_PER_LIST * key.nlist, MIN_SAMPLE) / max(rows, 1))


def in_sample(ids: NDArray[np.int64], seed: int, fraction: float) -> NDArray[np.bool_]:
    """Tells which ids are in the sample: bool `(n,)`.

    The hash is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    if fraction >= 1:
        return np.ones(len(ids), np.bool_)
    with np.errstate(over="ignore"):
        mixed = ids.astype(np.uint64) + _GOLDEN * np.uint64((seed + 1) % (1 << 64))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
        mixed ^= mixed >> np.uint64(31)
    return mixed < np.uint64(fraction * 2**64)


def sample_block(
    store: Store, shards: Sequence[tuple[int, FileReference]], dim: int, seed: int, fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Reads the sampled rows of a block's shards.

    Args:
        store: the root.
        shards: number and embeddings of each shard.
        dim: components of a vector.
        seed, fraction: see `in_sample`.

    Returns:
        ids int64 `(n,)` ascending, and vectors float32 `(n, dim)`. Memory: one shard and the sample.
    """
    ids, vectors = [np.empty(0, np.int64)], [np.empty((0, dim), np.float32)]
    for shard, embeddings in shards:
        stored = read_vectors(store, embeddings)
        found = row_ids(shard, len(stored))
        chosen = in_sample(found, seed, fraction)
        ids.append(found[chosen])
        vectors.append(stored[chosen])
    return np.concatenate(ids), np.concatenate(vectors)


def write_sample(file: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> str:
    """Writes the sampled rows of a block, as `sample_block` returns them, as one list of an `.ivf` file.

    Returns:
        The checksum of the file's reference.
    """
    codes = np.ascontiguousarray(vectors, dtype="<f4").view(np.uint8)
    with file.open("wb") as stream:
        seal = write_lists(stream, list_nos=np.zeros(len(ids), np.int64), codes=codes, ids=ids, nlist=1, fingerprint="")
    return f"xxh3:{seal.checksum}"


def read_sample(store: Store, files: Sequence[FileReference]) -> NDArray[np.float32]:
    """Reads the stored sample, float32 `(n, dim)`, in order of id."""
    parts = []
    for file in files:
        with store.open(file.path) as stream:
            lists = ListFile(stream, file.path)
            _, codes, _ = lists.read(lists.lists).unpack()
            parts.append(codes.view(np.float32))
    return np.concatenate(parts)
