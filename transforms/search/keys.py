"""The rows of an item, by its key: of own shards from the key tables, of ready embeddings by arithmetic."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.generations import key_tables, tables
from transforms.generations.manifest import Generation
from transforms.ready_range import VectorRange
from transforms.records import ROW_BITS
from transforms.storage.store import Store

_HASH_BITS = 64
_MOST_DIGITS = 18
_KEYS_ALONE = 8


def rows_of_key(store: Store, generation: Generation, key: str) -> NDArray[np.int64]:
    """Returns the ids, int64 `(n,)`, of the rows of an item: its picture, then its text, then its first keyword.

    None of an item that is not there, or, but of ready embeddings, was rejected. Cost: the table of hash buckets and
    the bucket of the key, 31 MB at most; of ready embeddings the table of shards.

    Raises:
        PixdexError: a table is missing or damaged.
    """
    if any(0xD800 <= ord(letter) < 0xE000 for letter in key):  # no key has undecodable bytes
        return np.empty(0, np.int64)
    if generation.request.is_ready:
        return _of_ranges(store, generation, [key])
    ((high, low),) = key_tables.hashes(pa.array([key], pa.string()))
    entries = key_tables.read_bucket(store, tables.buckets_of(store, generation), int(high), _HASH_BITS)
    mine = entries[(entries["low"] == low) & (entries["reject"] == 0)]
    singles = [key_tables.row_ids_of(mine, name) for name in ("image", "text")]
    some = mine[mine["keywords"] > 0]
    keywords = (some["shard"] << ROW_BITS) + some["keyword"]
    return np.concatenate([*singles, keywords]).astype(np.int64)


def rows_of_keys(store: Store, generation: Generation, keys: Sequence[str]) -> NDArray[np.int64]:
    """Returns the ids, int64 `(n,)`, of all rows of items; of keys that no item has, none.

    Cost: of each bucket with one of the keys a row group a key, or all of it for many, 31 MB.

    Raises:
        PixdexError: a table is missing or damaged.
    """
    if not keys:
        return np.empty(0, np.int64)
    if generation.request.is_ready:
        return _of_ranges(store, generation, keys)
    return key_tables.dead_ids(_entries(store, generation, _wanted(keys)))


def keys_of_none(store: Store, generation: Generation, keys: Sequence[str]) -> list[str]:
    """Returns those of some keys, each given once, that no item has; rejected items are some, too.

    Cost, raises: as `rows_of_keys`.
    """
    if not keys:
        return []
    if generation.request.is_ready:
        ranges = _ranges(store, generation)
        return [key for key in keys if not _ids_in(ranges, key)]
    wanted = _wanted(keys)
    there = key_tables.is_among(wanted, _entries(store, generation, wanted)).tolist()
    return [key for key, is_there in zip(keys, there, strict=True) if not is_there]


def _wanted(keys: Sequence[str]) -> NDArray[np.void]:
    wanted = np.zeros(len(keys), key_tables.LISTED)
    wanted["high"], wanted["low"] = key_tables.hashes(pa.array(keys, pa.string())).T
    return wanted


def _entries(store: Store, generation: Generation, wanted: NDArray[np.void]) -> NDArray[np.void]:
    """The entries of the key tables that have the hash of a wanted key."""
    parts = [np.empty(0, key_tables.ENTRY)]
    for bucket in tables.buckets_of(store, generation):
        low, high = bucket.hash_range
        mine = wanted[(wanted["high"] >= np.uint64(low)) & (wanted["high"] <= np.uint64(high))]
        if 0 < len(mine) <= _KEYS_ALONE:
            some = [key_tables.read_entries(store, bucket.file, int(one["high"]), _HASH_BITS) for one in mine]
        else:
            some = [key_tables.read_entries(store, bucket.file)] if len(mine) else []
        parts += [entries[key_tables.is_among(entries, mine)] for entries in some if len(entries)]
    return np.concatenate(parts)


def _of_ranges(store: Store, generation: Generation, keys: Sequence[str]) -> NDArray[np.int64]:
    ranges = _ranges(store, generation)
    return np.array([row for key in keys for row in _ids_in(ranges, key)], np.int64)


def _ranges(store: Store, generation: Generation) -> dict[str, list[tuple[int, VectorRange]]]:
    ranges: dict[str, list[tuple[int, VectorRange]]] = defaultdict(list)
    for shard in tables.shard_rows(store, generation):
        if (ready := tables.range_of(shard)) is not None:
            ranges[ready.uri].append((shard["shard"], ready))
    return ranges


def _ids_in(ranges: Mapping[str, Sequence[tuple[int, VectorRange]]], key: str) -> list[int]:
    """The rows of an item of ready embeddings."""
    ids: list[int] = []
    uri, _, number = key.rpartition("#")
    row = int(number) if number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS else -1
    for shard_number, ready in ranges.get(uri, ()):
        if ready.start <= row < ready.stop:
            first = (shard_number << ROW_BITS) + row - ready.start
            ids += range(first, first + ready.rows, ready.items)
    return ids
