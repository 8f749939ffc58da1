"""Whether every live row of a generation is in one entry of the key tables, and in one list.

Files have been looked at as files (`verify`): those that are damaged are passed over, and where one of them is
needed to tell, nothing is told.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.generations import key_tables, tables
from transforms.generations.key_tables import Bucket
from transforms.markers import ShardMarker
from transforms.records import ROWS_PER_SHARD, FileReference, split_ids
from transforms.storage import parquet_files
from transforms.storage.store import Store
from transforms.upkeep import row_set
from transforms.upkeep.listed_ids import ListsPart, list_files, parts_of_file, parts_of_lists
from transforms.upkeep.report import REBUILD
from transforms.upkeep.row_set import RowSet
from transforms.upkeep.verify_counts import BUCKET_COUNTS, Looked, for_each


def check(looked: Looked, pool: ThreadPoolExecutor) -> None:
    """Looks where every row is. Reads all key tables, and the ids of all lists that a search scans."""
    alive = None if looked.dead is None else _alive(looked)
    if alive is not None:
        _keys(looked, RowSet(alive), pool)
        _ids(looked, RowSet(alive), pool)


def _alive(looked: Looked) -> dict[int, NDArray[np.uint8]] | None:
    """Returns a bit for each row of a shard that is found, by shard; None where a file that says it is damaged."""
    assert looked.dead is not None
    rejects = {row["shard"]: tables.file_of(row) for row in looked.rejects}
    buried = dict(zip(looked.dead.shards.tolist(), looked.dead.bits, strict=True))
    alive = {}
    for shard in looked.shards:
        bits = row_set.first_rows(shard.numbered_rows)
        if shard.ready is not None and (file := rejects.get(shard.shard)) is not None:
            if not looked.report.is_whole(file):
                return None
            try:
                rejected = _rejected_rows(looked.store, file, shard)
            except PixdexError as error:
                looked.report.unreadable(file, error)
                return None
            bits &= ~_bits_of(rejected, len(bits))
        if shard.shard in buried:
            bits &= ~buried[shard.shard][: len(bits)]
        alive[shard.shard] = bits
    return alive


def _rejected_rows(store: Store, file: FileReference, shard: ShardMarker) -> NDArray[np.int64]:
    """The rows of a shard of ready embeddings that were rejected, which keep their place."""
    assert shard.ready is not None
    table = parquet_files.read(store, file)
    with parquet_files.making_sense_of(store, file.path):
        rows = [int(key.rpartition("#")[2]) - shard.ready.start for key in table["key"].to_pylist()]
        if rows and not 0 <= min(rows) <= max(rows) < shard.ready.items:
            raise ValueError(f"it names rows {min(rows)} to {max(rows)} of {shard.ready.items}")
    firsts = range(0, max(1, shard.ready.rows), max(1, shard.ready.items))
    return np.concatenate([np.array(rows, np.int64) + first for first in firsts])


def _bits_of(rows: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
    chosen = np.zeros(8 * length, np.bool_)
    chosen[rows] = True
    return np.packbits(chosen, bitorder="little")


def _keys(looked: Looked, unseen: RowSet, pool: ThreadPoolExecutor) -> None:
    """Checks that every live row is of exactly one entry of the key tables, and no entry of a dead one."""
    keys = looked.generation.tables.keys
    if keys is None:
        return
    for_each(pool, looked.keys, lambda row: _entries(looked, row, unseen))
    if unseen.rows and looked.report.is_whole(*map(tables.file_of, looked.keys)):
        what = f"does not name {unseen.rows} rows of the shards, such as {_row(unseen.example)}"
        looked.report.found(keys.path, what)


def _entries(looked: Looked, row: dict[str, Any], unseen: RowSet) -> None:
    """Looks at the entries of a hash bucket."""
    file, report = tables.file_of(row), looked.report.found
    if not looked.report.is_whole(file):
        return
    try:
        entries = key_tables.read_entries(looked.store, file)
    except (PixdexError, OSError) as error:
        looked.report.unreadable(file, error)
        return
    low, high = Bucket(row["bucket"], row["bits"], file).hash_range
    inside = (entries["high"] >= np.uint64(low)) & (entries["high"] <= np.uint64(high))
    if outside := int(np.count_nonzero(~inside)):
        report(file.path, f"has {outside} entries that belong into another bucket")
    twice, derivation = key_tables.same_as_before(entries), looked.generation.request.derivation
    if derivation is not None and derivation.spreads_items:
        twice &= np.diff(entries["shard"], prepend=-1) <= 0
    if (key_tables.sort(entries) != entries).any() or twice.any():
        report(file.path, "has entries that are not in order, or one twice")
    rejected = entries["reject"] != 0
    counts = {
        "entries": len(entries),
        "rejected": int(rejected.sum()),
        "images": int((entries["image"] >= 0).sum()),
        "texts": int((entries["text"] >= 0).sum()),
        "keywords": int(entries["keywords"].sum(dtype=np.int64)),
    }
    for name in BUCKET_COUNTS:
        if counts[name] != row[name]:
            report(file.path, f"has {counts[name]} {name}, its table names {row[name]}")
    empty = (entries["image"] < 0) & (entries["text"] < 0) & (entries["keywords"] <= 0)
    if wrong := int(np.count_nonzero(empty != rejected)):
        report(file.path, f"has {wrong} entries that are rejected and have rows, or neither")
    last = np.maximum(entries["image"], entries["text"]).astype(np.int64)
    last = np.maximum(last, entries["keyword"].astype(np.int64) + np.maximum(entries["keywords"], 0) - 1)
    sound = (last < ROWS_PER_SHARD) & (entries["keywords"] >= 0)
    if not sound.all():
        report(file.path, f"has {int((~sound).sum())} entries of rows that no shard can have")
    strange = unseen.take(key_tables.dead_ids(entries[sound]))
    if len(strange):
        what = f"names {len(strange)} rows that are dead, named twice, or in no shard, such as {_row(strange[0])}"
        report(file.path, what)


def _ids(looked: Looked, unseen: RowSet, pool: ThreadPoolExecutor) -> None:
    """Checks that every live row is in exactly one list of the merged index or of a delta; what else is, is dead."""
    assert looked.dead is not None
    store, generation, report = looked.store, looked.generation, looked.report
    files = list_files(store, generation)
    merged = [] if generation.is_segmented else [generation.index]
    rows = {shard.shard for shard in looked.shards}
    dead = zip(looked.dead.shards.tolist(), looked.dead.bits, strict=True)
    buried = RowSet({shard: bits for shard, bits in dead if shard in rows})
    before = buried.rows
    for file in [*merged, *files]:  # of an id that is in both, the delta is to blame
        if not report.is_whole(file) or not report.is_whole(generation.trained.training):
            continue
        try:
            cut = parts_of_file(store, generation) if file in merged else parts_of_lists(store, file)
            for_each(pool, cut, lambda part: _ids_of_part(looked, part, unseen, buried))
        except (PixdexError, OSError) as error:
            report.unreadable(file, error)
    if not report.is_whole(*files, *merged, generation.trained.training):
        return
    if unseen.rows:
        what = f"lacks {unseen.rows} live rows, such as {_row(unseen.example)}, and the deltas do, too"
        report.found(generation.index.path, what)
    if (dead_codes := before - buried.rows) != generation.totals.tombstones:
        what = f"and the deltas have {dead_codes} dead codes, the generation names {generation.totals.tombstones}"
        report.found(generation.index.path, what)


def _ids_of_part(looked: Looked, part: ListsPart, unseen: RowSet, buried: RowSet) -> None:
    strange = buried.take(unseen.take(part.ids(looked.store)))
    if len(strange):
        what = f"has {len(strange)} ids that are in lists twice, or of no row, such as {_row(strange[0])}"
        looked.report.found(part.file.path, what, REBUILD)


def _row(number: int) -> str:
    """Names a row for people."""
    shard, row = split_ids(np.array([number], np.int64))
    return f"row {row[0]} of shard {shard[0]}"
