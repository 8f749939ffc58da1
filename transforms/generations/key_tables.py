"""Key tables: of every item a hash of its key, its version, and where its rows are, sorted by hash in buckets.

They are what a reindex compares its sources with. An entry stands for one item; one that was rejected has no row. A
bucket is a range of hashes, in a parquet file of its own, so that no machine holds all entries, and none is touched by
Python one by one: entries travel as numpy records, and what is done with them are sorts and comparisons.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from transforms.records import ROW_BITS, Changes, FileReference
from transforms.shards import row_versions
from transforms.storage import arrow_numbers, layout, parquet_files
from transforms.storage.store import Store

ENTRY: Final = np.dtype(
    [
        ("high", "<u8"), ("low", "<u8"), ("version", "<u8"), ("origin", "<u8"), ("shard", "<i8"),
        ("image", "<i4"), ("text", "<i4"), ("keyword", "<i4"), ("keywords", "<i4"), ("reject", "<u4"),
        ("picture", "<u8"), ("words", "<u8"),
    ]
)  # fmt: skip
"""An item: the two halves of the xxh3_128 of its key; hashes of its version and of the container that it must be found
in; its shard; the rows of its picture, its text and its first keyword, -1 where there is none; how many keywords; a
hash of the type of its reject, 0 where it was embedded; and hashes of its picture and of its text and keywords, 0 where
there is none, or nobody wrote it down."""

LISTED: Final = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("version", "<u8"), ("position", "<i8"), ("picture", "<u8"), ("words", "<u8")]
)
"""An item that a source lists now: as in `ENTRY`, and its position in its item table."""

CHOSEN: Final = np.dtype(
    [("position", "<i8"), ("shard", "<i8"), ("image", "<i4"), ("text", "<i4"), ("keyword", "<i4"), ("whole", "?")]
)
"""An item that gets new rows: its position in its item table, and whose vectors these keep: the shard, and the rows of
its picture, its text and its first keyword, -1 where a vector is to be made; and whether they keep all."""

KeyBatch = tuple[str, bytes]
"""The path of an item table, and for some of its items the records of `LISTED`, as bytes."""

ENTRIES_PER_BUCKET: Final = 1 << 19
"""Of 76 bytes; what joining them takes is about five times that."""

_ROWS_PER_GROUP: Final = 1 << 15

_OF_PARTS: Final = ("picture", "words")
"""Fields of `ENTRY` and `LISTED` with hashes of what is embedded of an item."""


def put_versions(records: NDArray[np.void], versions: pa.Array) -> None:
    """Writes hashes of the versions of items, and of their parts, into records (`ENTRY` or `LISTED`)."""
    apart = row_versions.taken_apart(versions)
    records["version"] = short_hashes(apart.whole)
    records["picture"], records["words"] = apart.picture, apart.words


def hashes(values: pa.Array) -> NDArray[np.uint64]:
    """Returns the xxh3_128 of strings: uint64 `(n, 2)`, the high half first. About a microsecond each."""
    digests = b"".join([xxhash.xxh3_128_digest(value) for value in values.cast(pa.binary()).to_pylist()])
    return np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64)


def short_hashes(values: pa.Array) -> NDArray[np.uint64]:
    """Returns the xxh3_64 of strings: uint64 `(n,)`; what is compared for equality only needs no more."""
    hashed = [xxhash.xxh3_64_intdigest(value) for value in values.cast(pa.binary()).to_pylist()]
    return np.array(hashed, np.uint64)


def origin_of(container: str) -> int:
    """Returns what stands for a container in its items' entries; 0 stands for none that could be skipped."""
    return xxhash.xxh3_64_intdigest(container.encode()) or 1


def reject_of(kind: str) -> int:
    """Returns what stands for a type of reject; never 0."""
    return xxhash.xxh32_intdigest(kind.encode()) or 1


def listed(keys: pa.Array, versions: pa.Array, start: int) -> NDArray[np.void]:
    """Returns the records (`LISTED`) of items of a table from position `start` on."""
    items = np.empty(len(keys), LISTED)
    items["high"], items["low"] = hashes(keys).T
    put_versions(items, versions)
    items["position"] = start + np.arange(len(keys))
    return items


def records_of(data: bytes) -> NDArray[np.void]:
    """Reads the records (`LISTED`) of a batch back."""
    return np.frombuffer(data, LISTED)


def bits_for(items: int) -> int:
    """Returns how many bits of a hash number the buckets of so many items.

    >>> bits_for(1000), bits_for(1 << 20), bits_for(10**9)
    (0, 1, 11)
    """
    return max(0, -(-items // ENTRIES_PER_BUCKET) - 1).bit_length()


def by_bucket(records: NDArray[np.void], bits: int) -> Iterator[tuple[int, NDArray[np.void]]]:
    """Yields the records of every bucket that has any, in the order of buckets, as they came within one."""
    buckets = _bucket_of(records["high"], bits)
    order = np.argsort(buckets, kind="stable")
    bounds = np.flatnonzero(np.diff(buckets[order], prepend=-1, append=1 << bits))
    for begin, stop in itertools.pairwise(bounds.tolist()):
        chosen = order[begin:stop]
        yield int(buckets[chosen[0]]), records[chosen]


def sort(records: NDArray[np.void]) -> NDArray[np.void]:
    """Returns records in ascending order of their hash; those of one hash as they came."""
    return records[np.lexsort((records["low"], records["high"]))]


def same_as_before(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tells of sorted records which have the hash of the one before them."""
    same = np.zeros(len(records), np.bool_)
    same[1:] = (records["high"][1:] == records["high"][:-1]) & (records["low"][1:] == records["low"][:-1])
    return same


def is_among(records: NDArray[np.void], others: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tells which of some records have the hash of one of the others; each unique, in any order."""
    return place_among(records, others) >= 0


def place_among(records: NDArray[np.void], others: NDArray[np.void]) -> NDArray[np.int64]:
    """Returns for each record the place of the one of the others that has its hash, -1 where none has.

    Records and others may be of different kinds; hashes are unique among the others.
    """
    count = len(others)
    high = np.concatenate((others["high"], records["high"]))
    low = np.concatenate((others["low"], records["low"]))
    order = np.lexsort((np.arange(len(high)) >= count, low, high))
    first = np.ones(len(order), np.bool_)
    first[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    leader = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    place = np.full(len(high), -1, np.int64)
    place[order] = np.where(leader < count, leader, -1)
    return place[count:]


@dataclass(frozen=True)
class Difference:
    """What became of the items of a bucket.

    Attributes:
        chosen: bool `(listed,)`: items that get new rows, for they are new, changed or tried again.
        records: `CHOSEN` `(listed,)`: whose vectors they keep, as if all were chosen.
        removed: bool `(known,)`: entries whose rows are dead now: gone, changed or tried again.
        clashes: bool `(listed,)`: items whose key an item has that was not listed, since its container was not opened.
        counts: of items.
        gone: bool `(known,)`: entries of `removed` whose items are listed no more.
        met: bool `(listed,)`: items that are known, whether or not they changed.
    """

    chosen: NDArray[np.bool_]
    records: NDArray[np.void]
    removed: NDArray[np.bool_]
    clashes: NDArray[np.bool_]
    counts: Changes
    gone: NDArray[np.bool_]
    met: NDArray[np.bool_]


def compare(
    known: NDArray[np.void],
    listing: NDArray[np.void],
    unopened: NDArray[np.uint64],
    retry: NDArray[np.uint32] | None,
    damaged: NDArray[np.int64] | None = None,
) -> Difference:
    """Compares what a source lists with what is known; each key once on either side.

    Args:
        known: entries (`ENTRY`) of the current generation.
        listing: items (`LISTED`) as they are now.
        unopened: origins whose items are all unchanged, and were not listed.
        retry: types of rejects to be tried again though they did not change; empty: all, and items that were kept
            without the picture that they name; None: none.
        damaged: shards whose items are to be embedded again though they did not change; None: none.
    """
    place = place_among(listing, known)
    is_known = place >= 0
    matched = place[is_known]
    same = np.zeros(len(listing), np.bool_)
    same[is_known] = listing["version"][is_known] == known["version"][matched]
    again = np.zeros(len(listing), np.bool_)
    if retry is not None:
        kinds = known["reject"][matched]
        of_kinds = np.isin(kinds, retry) if len(retry) else True
        again[is_known] = (kinds != 0) & of_kinds
        if not len(retry):
            again[is_known] |= _lack_picture(known[matched])
    if damaged is not None:
        again[is_known] |= np.isin(known["shard"][matched], damaged)
    again &= same
    met = np.zeros(len(known), np.bool_)
    met[matched] = True
    kept = ~met & np.isin(known["origin"], unopened)
    gone = ~met & ~kept
    removed = gone.copy()
    removed[place[is_known & (~same | again)]] = True
    stays = np.zeros(len(known), np.bool_)
    stays[place[same & ~again]] = True
    stays |= kept
    rejected = known["reject"] != 0
    records = _carried(known, listing, place, damaged)
    _ask_for_pictures(records, again)
    counts = Changes(
        new=int((~is_known).sum()),
        changed=int((is_known & ~same).sum()),
        gone=int(gone.sum()),
        unchanged=int((stays & ~rejected).sum()),
        rejected=int((stays & rejected).sum()),
        retried=int(again.sum()),
        carried=int((records["whole"] & ~same).sum()),
    )
    clashes = np.zeros(len(listing), np.bool_)
    clashes[is_known] = np.isin(known["origin"][matched], unopened)
    return Difference(~same | again, records, removed, clashes, counts, gone, is_known)


def _lack_picture(entries: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tells which entries are of items that name a picture and were kept without it."""
    has_row = (entries["text"] >= 0) | (entries["keyword"] >= 0)
    lacks: NDArray[np.bool_] = (entries["reject"] == 0) & (entries["picture"] != 0) & (entries["image"] < 0) & has_row
    return lacks


def _ask_for_pictures(records: NDArray[np.void], again: NDArray[np.bool_]) -> None:
    """Has items that are tried again keep no more than vectors of their words."""
    records["whole"][again] = False
    records["image"][again] = -1


def _carried(
    known: NDArray[np.void], listing: NDArray[np.void], place: NDArray[np.int64], damaged: NDArray[np.int64] | None
) -> NDArray[np.void]:
    """Whose vectors listed items keep (`CHOSEN`)."""
    records = np.zeros(len(listing), CHOSEN)
    records["position"] = listing["position"]
    for name in ("shard", "image", "text", "keyword"):
        records[name] = -1
    there = np.flatnonzero(place >= 0)
    before = known[place[there]]
    is_sound = before["reject"] == 0
    if damaged is not None:
        is_sound &= ~np.isin(before["shard"], damaged)
    same = {name: is_sound & (listing[name][there] == before[name]) for name in _OF_PARTS}
    for name, kinds in (("picture", ("image",)), ("words", ("text", "keyword"))):
        kept = same[name] & (before[name] != 0)
        for kind in kinds:
            records[kind][there[kept]] = before[kind][kept]
        records["shard"][there[kept]] = before["shard"][kept]
    records["whole"][there] = same["picture"] & same["words"] & (records["shard"][there] >= 0)
    return records


def dead_ids(entries: NDArray[np.void]) -> NDArray[np.int64]:
    """Returns the ids, int64, of all rows of some entries."""
    single = [row_ids_of(entries, name) for name in ("image", "text")]
    some = entries[entries["keywords"] > 0]
    counts = some["keywords"].astype(np.int64)
    first = (some["shard"] << ROW_BITS) + some["keyword"]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.concatenate([*single, np.repeat(first, counts) + within])


def row_ids_of(entries: NDArray[np.void], kind: str) -> NDArray[np.int64]:
    """Returns the ids of the pictures, or of the texts, of some entries."""
    some = entries[entries[kind] >= 0]
    ids: NDArray[np.int64] = (some["shard"] << ROW_BITS) + some[kind]
    return ids


def whole_shard(shard: int, rows: int) -> NDArray[np.void]:
    """Returns an entry that stands for all rows of a shard of ready embeddings, whose keys nobody stores."""
    entry = np.zeros(1, ENTRY)
    entry["shard"], entry["image"], entry["text"] = shard, -1, -1
    entry["keywords"] = rows
    return entry


def joined(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Returns the entries of several arrays."""
    return np.concatenate([np.empty(0, ENTRY), *parts])


@dataclass(frozen=True)
class Bucket:
    """The file of a bucket: entries whose hash begins with `number`, read as `bits` bits."""

    number: int
    bits: int
    file: FileReference

    @property
    def hash_range(self) -> tuple[int, int]:
        """The first high half of a hash that belongs here, and the last."""
        return first_hash(self.number, self.bits), first_hash(self.number + 1, self.bits) - 1


def first_hash(bucket: int, bits: int) -> int:
    """Returns the first high half of a hash that lies in a bucket."""
    return bucket << (64 - bits)


def write_entries(store: Store, entries: NDArray[np.void], folder: str = layout.TABLES) -> FileReference:
    """Writes sorted entries as a table; equal ones have one name."""
    columns = {name: pa.array(np.ascontiguousarray(entries[name])) for name in ENTRY.names or ()}
    return parquet_files.write_table(store, pa.table(columns), _ROWS_PER_GROUP, folder)


def read_entries(store: Store, file: FileReference, number: int = 0, bits: int = 0) -> NDArray[np.void]:
    """Reads the entries of a table that lie in a bucket; only row groups that can hold one are read."""
    low, high = first_hash(number, bits), first_hash(number + 1, bits) - 1
    store.check(file)
    with parquet_files.opened(store, file) as opened:
        groups = [
            group
            for group in range(opened.num_row_groups)
            if (stored := opened.metadata.row_group(group).column(0).statistics) is None
            or (stored.max >= low and stored.min <= high)
        ]
        table = opened.read_row_groups(groups) if groups else opened.schema_arrow.empty_table()
        entries = np.empty(len(table), ENTRY)
        for name in ENTRY.names or ():
            # An older pixdex wrote no hashes of parts.
            entries[name] = arrow_numbers.numbers_of(table[name]) if name in table.column_names else 0
    if not bits:
        return entries
    return entries[(entries["high"] >= np.uint64(low)) & (entries["high"] <= np.uint64(high))]


def read_bucket(store: Store, buckets: Sequence[Bucket], number: int, bits: int) -> NDArray[np.void]:
    """Reads a bucket from files that may be of larger or smaller ones."""
    low, high = first_hash(number, bits), first_hash(number + 1, bits) - 1
    overlapping = [one for one in buckets if one.hash_range[0] <= high and one.hash_range[1] >= low]
    parts = [read_entries(store, one.file, number, bits) for one in overlapping]
    return joined(parts)


def _bucket_of(high: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    if bits == 0:
        return np.zeros(len(high), np.int64)
    return (high >> np.uint64(64 - bits)).astype(np.int64)
