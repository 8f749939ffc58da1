"""Whether a generation is whole: every file, every checksum, every count, and every id in exactly one place.

Everything is read once, by several threads. What is wrong is collected, by the name of the file, and not raised: a
person who repairs wants to see all of it. Memory: two bits a row, and what is read at once.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64

from transforms import collecting, key_table, members, parquet_files, planning, shards, tombstones, vector_files
from transforms.errors import PixdexError
from transforms.generations import SEGMENTS
from transforms.index.faiss_file import body_offset
from transforms.index.list_format import ID_BYTES
from transforms.index.opened_lists import opened_lists
from transforms.index.trained import read_training
from transforms.records import ROW_BITS, ROWS_PER_SHARD, FileReference, Generation, ShardMarker
from transforms.rolling_back import references
from transforms.store import Found, Store
from transforms.tombstones import Tombstones

MOST_FINDINGS: Final = 1000
_READERS: Final = 4
_READ_BYTES: Final = 1 << 20
_LISTS_AT_ONCE: Final = 64 << 20

RESTORE: Final = "restore it from a backup, or go back with pixdex rollback"
REPAIRED: Final = ("embeddings", "rejects")
REPAIR: Final = "pixdex reindex --repair embeds its items anew"
REBUILD: Final = "pixdex reindex --retrain always makes it anew from the stored embeddings"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: with which file, what, and the way out."""

    path: str
    what: str


@dataclass
class Report:
    """What was looked at, and what is wrong."""

    files: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def found(self, path: str, what: str) -> None:
        """Notes something that is wrong; the first thousand of them."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(path, what))


def verify(store: Store, generation: Generation, *, quick: bool = False) -> Report:
    """Looks at everything that a generation needs.

    Args:
        store: the root.
        generation: one of it.
        quick: only whether files are there with their sizes, and whether counts agree; no content is hashed.
    """
    report = Report()
    if not _tables_read(store, generation, report):
        return report
    files = references(store, generation)
    with ThreadPoolExecutor(_READERS, "verify") as pool:
        for finding in pool.map(lambda file: _file(store, file, quick=quick), files):
            report.findings += finding
    report.files, report.bytes = len(files) + 1, sum(file.bytes for file in files)
    if not quick:
        _attempt(report, generation.index.path, lambda: _merged_ranges(store, generation, report))
    if report.findings:
        return report  # counts of what is damaged say nothing more
    for look in (_trained, _counts, _keys, _ready):
        _attempt(report, generation.index.path, lambda look=look: look(store, generation, report))  # type: ignore[misc]
    if not quick and not report.findings:
        _attempt(report, generation.index.path, lambda: _ids(store, generation, report))
    return report


def orphans(store: Store, needed: Iterable[str]) -> list[Found]:
    """Returns files of the root that nothing needs: what stopped runs left, until pixdex gc drops it."""
    wanted = set(needed)
    return [
        file
        for file in collecting.everything(store)
        if file.path not in wanted and not file.path.startswith(("plans/", "generations/"))
    ]


def _attempt(report: Report, path: str, look: Callable[[], None]) -> None:
    """What cannot be read is a finding, too."""
    try:
        look()
    except PixdexError as error:
        report.found(path, str(error))


def _tables_read(store: Store, generation: Generation, report: Report) -> bool:
    whole = True
    for table in generation.tables.all:
        if wrong := _file(store, table, quick=False):
            report.findings += wrong
            whole = False
    return whole


def _file(store: Store, file: FileReference, *, quick: bool) -> list[Finding]:
    """What is wrong with a file of the root."""
    path = f"{store.url}/{file.path}"
    folder = file.path.partition("/")[0]
    repair = REBUILD if folder in ("lists", "index", "trained") else REPAIR if folder in REPAIRED else RESTORE
    try:
        if not store.exists(file.path):
            return [Finding(path, f"is missing: {repair}")]
        if not store.holds(file):
            size = store.filesystem.size(store.full(file.path))
            return [Finding(path, f"has {size} bytes instead of {file.bytes}: {repair}")]
        if quick:
            return []
        scheme, _, checksum = file.checksum.partition(":")
        if scheme == "sha256" and store.sha256(file.path) != checksum:
            return [Finding(path, f"does not match its checksum, some of its bytes are wrong: {repair}")]
        if scheme == "xxh3":
            with opened_lists(store, file) as lists:
                lists.verify()
    except (PixdexError, OSError) as error:
        return [Finding(path, f"{error}: {repair}")]
    return []


def _merged_ranges(store: Store, generation: Generation, report: Report) -> None:
    """Checks every range of a merged file; that of an object store is checked segment by segment, as files."""
    if generation.index.checksum.startswith(SEGMENTS):
        return
    path = generation.index.path
    with store.open(path) as stream:
        for row in parquet_files.read(store, generation.tables.segments).to_pylist():
            hasher, left = xxh3_64(), row["bytes"]
            stream.seek(row["offset"])
            while left and (part := stream.read(min(left, _READ_BYTES))):
                hasher.update(part)
                left -= len(part)
            if row["checksum"] != f"xxh3:{hasher.hexdigest()}":
                where = f"{row['offset']}..{row['offset'] + row['bytes'] - 1}"
                report.found(f"{store.url}/{path}", f"bytes {where} do not match their checksum: {REBUILD}")


def _trained(store: Store, generation: Generation, report: Report) -> None:
    trained = generation.trained
    files = [trained.index, trained.training, *([trained.assignment] if trained.assignment else [])]
    sums = "".join(file.checksum.removeprefix("sha256:") for file in files)
    if hashlib.sha256(sums.encode()).hexdigest() != trained.fingerprint:
        report.found(f"{store.url}/{trained.index.path}", f"is not the trained index {trained.fingerprint}: {RESTORE}")


def _counts(store: Store, generation: Generation, report: Report) -> None:
    """Compares the rows of shards, less the dead, with those of lists and with the totals."""
    totals, path = generation.totals, f"{store.url}/{generation.tables.shards.path}"
    dead = tombstones.read_all(store, generation.tables.tombstones)
    counts, found = dead.count_by_shard, members.shards_of(store, generation)
    alive = sum(marker.rows - min(marker.rows, counts.get(marker.shard, 0)) for marker in found)
    blocks = members.blocks_of(store, generation)
    merged = sum(block.rows for block in blocks if block.merged)
    listed = sum(block.rows for block in blocks)
    if alive != totals.vectors:
        report.found(path, f"has {alive} live rows, the generation names {totals.vectors}: {RESTORE}")
    if listed != totals.vectors + totals.tombstones:
        report.found(
            f"{store.url}/{generation.tables.blocks.path}",
            f"has {listed} codes, the generation names {totals.vectors + totals.tombstones}: {REBUILD}",
        )
    if (stands := _merged_rows(store, generation)) != merged:
        report.found(f"{store.url}/{generation.index.path}", f"holds {stands} codes instead of {merged}: {REBUILD}")
    for marker in found:
        if marker.embeddings is not None:
            with parquet_files.opened(store, marker.embeddings) as file:
                rows = file.metadata.num_rows
            if rows != marker.rows:
                what = f"has {rows} rows instead of {marker.rows}: {RESTORE}"
                report.found(f"{store.url}/{marker.embeddings.path}", what)
    for block in blocks:
        with opened_lists(store, block.lists) as lists:
            if lists.rows != block.rows or lists.fingerprint != generation.trained.fingerprint:
                what = f"has {lists.rows} codes of {lists.fingerprint[:12]}…, not {block.rows} of this index: {REBUILD}"
                report.found(f"{store.url}/{block.lists.path}", what)


def _merged_rows(store: Store, generation: Generation) -> int:
    rows = parquet_files.read(store, generation.tables.segments).to_pylist()
    if generation.index.checksum.startswith(SEGMENTS):
        total = 0
        for row in rows:
            with opened_lists(store, members.file_of(row)) as lists:
                total += lists.rows
        return total
    entry = generation.trained.code_size + ID_BYTES
    return sum(int(row["bytes"]) for row in rows if row["last_list"]) // entry


def _keys(store: Store, generation: Generation, report: Report) -> None:
    """Checks that every live row is of exactly one entry of the key tables, and no entry of a dead one."""
    buckets, totals = members.buckets_of(store, generation), generation.totals
    if not buckets:
        return
    path = f"{store.url}/{generation.tables.keys.path if generation.tables.keys else ''}"
    if sorted(one.number for one in buckets) != list(range(1 << buckets[0].bits)):
        report.found(path, f"does not have all {1 << buckets[0].bits} hash buckets: {RESTORE}")
        return
    dead = tombstones.read_all(store, generation.tables.tombstones)
    unseen = _live_rows(store, generation, dead)
    items = rejected = 0
    for bucket in buckets:
        name = f"{store.url}/{bucket.file.path}"
        entries = key_table.read_entries(store, bucket.file)
        low, high = bucket.hash_range
        inside = (entries["high"] >= np.uint64(low)) & (entries["high"] <= np.uint64(high))
        ordered = key_table.sort(entries)
        if not inside.all() or (ordered != entries).any() or key_table.same_as_before(entries).any():
            report.found(name, f"has entries out of place, or twice: {RESTORE}")
        items, rejected = items + len(entries), rejected + int(np.count_nonzero(entries["reject"]))
        if wrong := unseen.take(key_table.dead_ids(entries)):
            report.found(name, f"names {wrong} rows that are dead, or named twice, or in no shard: {RESTORE}")
    if left := unseen.left():
        report.found(path, f"does not name {left} rows of the shards: {RESTORE}")
    if (items, rejected) != (totals.items, totals.rejected):
        report.found(
            path, f"has {items} items, {rejected} of them rejected, not {totals.items} and {totals.rejected}: {RESTORE}"
        )
    rejects = sum(len(shards.read_rejects(store, file)) for file in members.rejects_of(store, generation).values())
    if rejects != totals.rejected:
        table = f"{store.url}/{generation.tables.rejects.path}"
        report.found(table, f"names {rejects} rejects instead of {totals.rejected}: {RESTORE}")


def _ready(store: Store, generation: Generation, report: Report) -> None:
    """Checks that files of ready embeddings are there in the version that was registered; they are not read."""
    dead = tombstones.read_all(store, generation.tables.tombstones).count_by_shard
    looked: set[str] = set()
    for marker in members.shards_of(store, generation):
        ready = marker.ready
        if ready is None or ready.uri in looked or marker.shard in dead:
            continue
        looked.add(ready.uri)
        for uri, version in ((ready.uri, ready.version), (ready.metadata, ready.metadata_version)):
            if uri is None:
                continue
            try:
                stands = vector_files.stat(uri)[1]
            except OSError as error:
                report.found(uri, f"cannot be read ({error.strerror or error}): put it back")
                continue
            if stands != version:
                report.found(uri, f"was changed since it was registered ({stands}, not {version}): run pixdex reindex")


class _Rows:
    """A bit for each row that is still expected, in arrays a shard."""

    def __init__(self) -> None:
        self._bits: dict[int, NDArray[np.bool_]] = {}

    def expect(self, shard: int, rows: NDArray[np.bool_]) -> None:
        """Expects the rows of a shard that are true."""
        self._bits[shard] = rows

    def take(self, ids: NDArray[np.int64]) -> int:
        """Crosses rows off. Returns how many of them were not expected, any more or at all."""
        wrong = 0
        numbers, rows = ids >> ROW_BITS, ids & (ROWS_PER_SHARD - 1)
        order = np.argsort(numbers, kind="stable")
        numbers, rows = numbers[order], rows[order]
        cuts = np.flatnonzero(np.diff(numbers, prepend=-1, append=np.iinfo(np.int64).max)).tolist()
        for start, stop in itertools.pairwise(cuts):
            bits = self._bits.get(int(numbers[start]))
            some = rows[start:stop]
            if bits is None:
                wrong += len(some)
                continue
            fitting = some[some < len(bits)]
            unique, counts = np.unique(fitting, return_counts=True)
            wrong += len(some) - len(fitting) + int((counts - 1).sum()) + int((~bits[unique]).sum())
            bits[unique] = False
        return wrong

    def left(self) -> int:
        """How many rows are still expected."""
        return sum(int(bits.sum()) for bits in self._bits.values())


def _live_rows(store: Store, generation: Generation, dead: Tombstones) -> _Rows:
    rows, rejects = _Rows(), members.rejects_of(store, generation)
    for marker in members.shards_of(store, generation):
        count = planning.numbered_rows(marker)
        ids = (marker.shard << ROW_BITS) + np.arange(count, dtype=np.int64)
        alive = dead.are_alive(ids)
        if marker.ready is not None and marker.shard in rejects:
            alive[_rejected_rows(store, rejects[marker.shard], marker)] = False
        rows.expect(marker.shard, alive)
    return rows


def _rejected_rows(store: Store, file: FileReference, marker: ShardMarker) -> NDArray[np.int64]:
    """The rows of a shard of ready embeddings that were rejected, which keep their place."""
    assert marker.ready is not None
    keys = shards.read_rejects(store, file)["key"].to_pylist()
    return np.array([int(key.rpartition("#")[2]) - marker.ready.start for key in keys], np.int64)


def _ids(store: Store, generation: Generation, report: Report) -> None:
    """Checks that every live row is in exactly one list of the merged index or of a delta; what else is, is dead."""
    dead = tombstones.read_all(store, generation.tables.tombstones)
    unseen = _live_rows(store, generation, dead)
    buried = 0
    for name, ids in _listed_ids(store, generation):
        gone = dead.are_dead(ids)
        buried += int(gone.sum())
        if wrong := unseen.take(ids[~gone]):
            report.found(name, f"has {wrong} ids twice, or of no live row: {REBUILD}")
    if left := unseen.left():
        what = f"{left} live rows are in no list: {REBUILD}"
        report.found(f"{store.url}/{generation.index.path}", what)
    if buried != generation.totals.tombstones:
        what = f"has {buried} dead codes, the generation names {generation.totals.tombstones}: {REBUILD}"
        report.found(f"{store.url}/{generation.index.path}", what)


def _listed_ids(store: Store, generation: Generation) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yields the ids of the merged index, and of the deltas, some lists at a time."""
    if generation.index.checksum.startswith(SEGMENTS):
        rows = parquet_files.read(store, generation.tables.segments).to_pylist()
        for row in rows:
            yield from _ids_of_lists(store, members.file_of(row))
    else:
        yield from _ids_of_file(store, generation)
    for block in members.blocks_of(store, generation):
        if not block.merged:
            yield from _ids_of_lists(store, block.lists)


def _ids_of_lists(store: Store, file: FileReference) -> Iterator[tuple[str, NDArray[np.int64]]]:
    with opened_lists(store, file) as lists:
        cuts = np.unique(lists.fence_offsets // _LISTS_AT_ONCE, return_index=True)[1].tolist()
        bounds = [int(lists.fence_lists[cut]) for cut in cuts] + [lists.lists.stop]
        for start, stop in itertools.pairwise(bounds):
            if stop > start:
                yield f"{store.url}/{file.path}", lists.read(range(start, stop)).unpack()[2]


def _ids_of_file(store: Store, generation: Generation) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Reads the ids of an ordinary faiss file, whose lists stand as in the shard indexes that were merged."""
    layout = read_training(store, generation.trained).layout
    sizes = np.zeros(layout.nlist, np.int64)
    for block in members.blocks_of(store, generation):
        if block.merged:
            with opened_lists(store, block.lists) as lists:
                stored = lists.sizes()
            sizes[stored.list_nos] += stored.sizes
    entry = layout.code_size + ID_BYTES
    before = np.concatenate(([0], np.cumsum(sizes))) * entry
    with store.open(generation.index.path) as stream:
        first = 0
        while first < len(sizes):
            full = int(np.searchsorted(before, before[first] + _LISTS_AT_ONCE, side="right")) - 1
            stop = max(first + 1, full)
            stream.seek(body_offset(layout, sizes, first))
            body = np.frombuffer(stream.read(int(sizes[first:stop].sum()) * entry), np.uint8)
            parts, start = [np.empty(0, np.int64)], 0
            for size in sizes[first:stop].tolist():
                begin = start + size * layout.code_size
                parts.append(np.frombuffer(body[begin : begin + size * ID_BYTES].tobytes(), "<i8"))
                start += size * entry
            yield f"{store.url}/{generation.index.path}", np.concatenate(parts)
            first = stop
