"""Whether a generation's tables, the footers of its files and its totals count the same.

Files have been looked at as files (`verify`): those that are damaged are passed over.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from transforms.errors import PixdexError
from transforms.generations import tables, tombstones
from transforms.generations.manifest import Generation
from transforms.generations.tables import BlockMember
from transforms.generations.tombstones import Tombstones
from transforms.index.lists.format import ID_BYTES
from transforms.index.lists.opened import opened_lists
from transforms.markers import ShardMarker
from transforms.records import ROWS_PER_SHARD, FileReference
from transforms.shards.stored_vectors import opened_vectors
from transforms.storage import layout, parquet_files
from transforms.storage.store import Store
from transforms.upkeep.report import Report

KINDS: Final = ("images", "texts", "keywords")
BUCKET_COUNTS: Final = ("entries", "rejected", *KINDS)


@dataclass(frozen=True)
class Looked:
    """The rows of a generation's tables, and its dead rows; None where a file of them is damaged."""

    store: Store
    generation: Generation
    report: Report
    shards: list[ShardMarker]
    blocks: list[BlockMember]
    segments: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    keys: list[dict[str, Any]]
    tombstones: list[dict[str, Any]]
    dead: Tombstones | None

    @classmethod
    def at(cls, store: Store, generation: Generation, report: Report) -> "Looked":
        """Reads the tables, which must be whole, and the tombstones."""
        files = tables.tombstone_rows(store, generation)
        return cls(
            store=store,
            generation=generation,
            report=report,
            shards=tables.shards_of(store, generation),
            blocks=[BlockMember.of(row) for row in tables.block_rows(store, generation)],
            segments=tables.segment_rows(store, generation),
            rejects=tables.reject_rows(store, generation),
            keys=tables.key_rows(store, generation),
            tombstones=files,
            dead=_dead(store, report, list(map(tables.file_of, files))),
        )

    def disagree(self, table: FileReference | None, what: str, counted: object, named: object) -> None:
        """Notes counts that differ."""
        if counted != named and table is not None:
            self.report.found(table.path, f"has {counted} {what}, the generation names {named}")


def _dead(store: Store, report: Report, files: list[FileReference]) -> Tombstones | None:
    """Reads tombstones; None where some are damaged, which nobody may have noticed yet."""
    parts = []
    for file in files:
        if report.is_whole(file):
            try:
                parts.append(tombstones.read(store, file))
            except (PixdexError, OSError) as error:
                report.unreadable(file, error)
    return Tombstones.joined(parts) if report.is_whole(*files) else None


def check(looked: Looked, pool: ThreadPoolExecutor) -> None:
    """Compares all counts. Reads footers only, and the tombstones."""
    _shards(looked)
    _lists(looked)
    _totals(looked)
    for_each(pool, looked.shards, lambda shard: _rows_of_shard(looked, shard))
    for_each(pool, looked.blocks, lambda block: _rows_of_block(looked, block))
    for_each(pool, looked.rejects, lambda row: _rows_of_rejects(looked, row))


def for_each(pool: ThreadPoolExecutor, things: Iterable[Any], look: Callable[[Any], None]) -> None:
    """Looks at things with all threads, until the last has been looked at."""
    for _ in pool.map(look, things):
        pass


def _shards(looked: Looked) -> None:
    """Compares the counts of each shard with each other, and with its tombstones."""
    path, report = looked.generation.tables.shards.path, looked.report.found
    numbers = [shard.shard for shard in looked.shards]
    if len(set(numbers)) != len(numbers):
        report(path, "names a shard twice")
    for shard in looked.shards:
        if shard.shard >= looked.generation.next_shard:
            report(path, f"has shard {shard.shard}, the next one would be {looked.generation.next_shard}")
        if shard.rows != shard.images + shard.texts + shard.keywords or shard.rows > ROWS_PER_SHARD:
            kinds = f"{shard.images} pictures, {shard.texts} texts, {shard.keywords} keywords"
            report(path, f"has shard {shard.shard} with {shard.rows} rows, of {kinds}")
    if looked.dead is None:
        return
    for row in looked.tombstones:
        file = tables.file_of(row)
        dead_rows = tombstones.read(looked.store, file).rows
        if dead_rows != row["rows"]:
            report(file.path, f"has {dead_rows} dead rows, its table names {row['rows']}")
    rows = {shard.shard: shard.numbered_rows for shard in looked.shards}
    for shard, bits in zip(looked.dead.shards.tolist(), looked.dead.bits, strict=True):
        # Of a shard whose rows are all dead and merged away, tombstones stay.
        most = rows.get(shard, ROWS_PER_SHARD if shard < looked.generation.next_shard else 0)
        beyond = int(np.unpackbits(bits, bitorder="little")[most:].sum())
        if beyond:
            name = _tombstones_of(looked, shard)
            report(name, f"names {beyond} dead rows of shard {shard}, which does not have these rows")


def _tombstones_of(looked: Looked, shard: int) -> str:
    """The file that names the dead rows of a shard."""
    files = {int(row["folder"]): str(row["path"]) for row in looked.tombstones}
    return files.get(layout.folder_of(shard)) or next(iter(files.values()))


def _lists(looked: Looked) -> None:
    """Compares the rows of lists with those of the merged index and with the totals."""
    generation, totals = looked.generation, looked.generation.totals
    merged = sum(block.rows for block in looked.blocks if block.merged)
    codes = sum(block.rows for block in looked.blocks)
    if codes != totals.vectors + totals.tombstones:
        named = f"{totals.vectors} and {totals.tombstones} dead ones"
        looked.report.found(generation.tables.blocks.path, f"has {codes} codes, the generation names {named}")
    if generation.is_segmented:
        codes_held = 0
        for row in looked.segments:
            file = tables.file_of(row)
            if not looked.report.is_whole(file):
                return
            codes_held += _rows_of_lists(looked, file) or 0
    else:
        codes_held, rest = divmod(
            sum(row["bytes"] for row in looked.segments if row["last_list"]), generation.trained.code_size + ID_BYTES
        )
        if rest:
            looked.report.found(generation.tables.segments.path, f"has ranges of {rest} bytes more than whole codes")
    if codes_held != merged:
        looked.report.found(generation.index.path, f"holds {codes_held} codes, shard indexes of {merged} were merged")


def _totals(looked: Looked) -> None:
    """Compares the totals with the sums of the tables."""
    listed, totals, dead = looked.generation.tables, looked.generation.totals, looked.dead
    looked.disagree(listed.shards, "shards", len(looked.shards), totals.shards)
    looked.disagree(listed.blocks, "shard indexes", len(looked.blocks), totals.blocks)
    rejected = sum(row["rejected"] for row in looked.rejects)
    looked.disagree(listed.rejects, "rejects", rejected, totals.rejected)
    if dead is not None:
        counts = dead.count_by_shard
        alive = sum(shard.rows - min(shard.rows, counts.get(shard.shard, 0)) for shard in looked.shards)
        looked.disagree(listed.shards, "live rows", alive, totals.vectors)
        if listed.keys is None:
            _ready_totals(looked, [shard for shard in looked.shards if shard.shard not in counts])
    if listed.keys is not None:
        sums = {name: sum(row[name] for row in looked.keys) for name in BUCKET_COUNTS}
        looked.disagree(listed.keys, "items", sums["entries"], totals.items)
        looked.disagree(listed.keys, "rejects", sums["rejected"], totals.rejected)
        for kind in KINDS:
            looked.disagree(listed.keys, kind, sums[kind], getattr(totals, kind))
        _buckets(looked)
    kinds = totals.images + totals.texts + totals.keywords
    if kinds != totals.vectors or totals.embedded + totals.rejected != totals.items:
        looked.report.found(layout.generation(looked.generation.generation), "has totals that contradict each other")


def _ready_totals(looked: Looked, alive: list[ShardMarker]) -> None:
    """Those of ready embeddings, which have no key tables."""
    table, totals = looked.generation.tables.shards, looked.generation.totals
    for name in ("items", "rejected", *KINDS):
        looked.disagree(table, name, sum(getattr(shard, name) for shard in alive), getattr(totals, name))


def _buckets(looked: Looked) -> None:
    """Checks that every hash has one bucket."""
    keys = looked.generation.tables.keys
    bits = {row["bits"] for row in looked.keys}
    numbers = sorted(row["bucket"] for row in looked.keys)
    if keys is not None and (len(bits) != 1 or numbers != list(range(1 << bits.pop()))):
        looked.report.found(keys.path, "does not have every hash bucket once")


def _rows_of_shard(looked: Looked, shard: ShardMarker) -> None:
    file = shard.embeddings
    if file is None:
        if shard.ready is None and shard.rows:
            looked.report.found(looked.generation.tables.shards.path, f"has no file of shard {shard.shard}")
        return
    _compare_rows(looked, file, shard.rows)


def _rows_of_rejects(looked: Looked, row: dict[str, Any]) -> None:
    _compare_rows(looked, tables.file_of(row), row["rejected"])


def _compare_rows(looked: Looked, file: FileReference, named: int) -> None:
    """Compares what the footer of a parquet file says with what a table says."""
    if not looked.report.is_whole(file):
        return
    try:
        with parquet_files.opened(looked.store, file) as opened:
            rows = opened.metadata.num_rows
    except (PixdexError, OSError) as error:
        looked.report.unreadable(file, error)
        return
    if rows != named:
        looked.report.found(file.path, f"has {rows} rows, its table names {named}")


def _rows_of_block(looked: Looked, block: BlockMember) -> None:
    rows = _rows_of_lists(looked, block.lists) if looked.report.is_whole(block.lists) else None
    if rows is not None and rows != block.rows:
        looked.report.found(block.lists.path, f"has {rows} codes, its table names {block.rows}")
    if block.vectors is not None and looked.report.is_whole(block.vectors):
        _rows_of_vectors(looked, block, block.vectors)


def _rows_of_vectors(looked: Looked, block: BlockMember, file: FileReference) -> None:
    """Checks that stored vectors are of the shards of their block, all but those that are read where they lie."""
    try:
        extent = opened_vectors(looked.store, file).extent
    except (PixdexError, OSError) as error:
        looked.report.unreadable(file, error)
        return
    has = dict(zip(extent.shards.tolist(), extent.rows.tolist(), strict=True))
    for shard in looked.shards:
        is_elsewhere = shard.ready is not None and shard.ready.format == "npy"
        if not block.first_shard <= shard.shard <= block.last_shard or is_elsewhere or not shard.rows:
            continue
        if has.get(shard.shard) != shard.numbered_rows:
            what = f"has {has.get(shard.shard, 0)} rows of shard {shard.shard}, which has {shard.numbered_rows}"
            looked.report.found(file.path, what)


def _rows_of_lists(looked: Looked, file: FileReference) -> int | None:
    """Returns how many codes a list file has, for the footer says it; notes one of another trained index."""
    try:
        with opened_lists(looked.store, file) as lists:
            built_with, rows = (lists.fingerprint, lists.nlist, lists.code_size), lists.rows
    except (PixdexError, OSError) as error:
        looked.report.unreadable(file, error)
        return None
    trained = looked.generation.trained
    if built_with != (trained.fingerprint, trained.nlist, trained.code_size):
        looked.report.found(file.path, f"was made with trained index {built_with[0]}, this is {trained.fingerprint}")
    return rows
