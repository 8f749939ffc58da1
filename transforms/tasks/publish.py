"""The tables of a generation, and publishing it: the last step of a run, which makes all of it visible at once."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from transforms.errors import PixdexError
from transforms.generations import manifest, tables
from transforms.generations.manifest import SEGMENTS, Generation, Tables, Totals
from transforms.generations.tables import BlockMember
from transforms.index.lists.format import ID_BYTES
from transforms.markers import KeysMarker, PieceMarker, RejectsFile, SegmentMarker, ShardMarker, TrainedIndex
from transforms.records import FileReference, digest
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.storage import layout, parquet_files
from transforms.storage.parquet_files import READY
from transforms.storage.store import Store

_FILE = [("path", pa.string()), ("bytes", pa.int64()), ("checksum", pa.string())]
_SHARD_COUNTS = ("shard", "block", "items", "rejected", "rows", "images", "texts", "keywords")
_SHARDS = pa.schema([*((name, pa.int64()) for name in _SHARD_COUNTS), *_FILE, ("ready", READY)])
"""Counts are those of the embedding: rows that died since are in them."""

_BLOCKS = pa.schema(
    [
        *((name, pa.int64()) for name in ("block", "rows", "first_shard", "last_shard")),
        ("merged", pa.bool_()),
        *_FILE,
    ]
)
"""Shard indexes; those that are not `merged` are deltas, which a search scans beside the merged index."""

_SEGMENTS = pa.schema([*((name, pa.int64()) for name in ("first_list", "last_list", "offset")), *_FILE])
_REJECTS = pa.schema([("shard", pa.int64()), ("rejected", pa.int64()), *_FILE])
_TOMBSTONES = pa.schema([("folder", pa.int64()), ("rows", pa.int64()), *_FILE])
_KEY_COUNTS = ("entries", "rejected", "images", "texts", "keywords")
_KEYS = pa.schema([*((name, pa.int64()) for name in ("bucket", "bits", *_KEY_COUNTS)), *_FILE])


def publish(run: Run) -> Generation:
    """Writes the tables of a finished run and creates its generation, the last step of all.

    Raises:
        PixdexError: the counts of shards, blocks and merged index do not agree.
    """
    store, base, trained = run.store, run.base, run.trained()
    lists, keys, files = inventory.lists(run), inventory.key_markers(run), inventory.tombstone_files(run)
    # What died stays known while a shard index may have it.
    shards = inventory.live_shards(run) if lists.merged else inventory.all_shards(run)
    merged = _merged(run, trained.trained) if lists.merged else None
    alive, listed = inventory.live_rows(run), sum(block.rows for block in lists.all)
    _check_whole(run, merged, alive, listed, shards)
    if base is not None and merged is None:
        index, segments = base.index, base.tables.segments
    else:
        assert merged is not None
        index, segments = merged.index, _write(store, merged.segments, _SEGMENTS)
    generation = Generation(
        generation=run.generation,
        request=replace(run.request, reindex=None),
        request_digest=digest(replace(run.request, reindex=None)),
        totals=_totals(run, keys, shards, lists.all, listed - alive),
        trained=trained.trained,
        index=index,
        tables=Tables(
            shards=_write(store, map(_shard_row, shards), _SHARDS),
            blocks=_write(store, map(_block_row, range(len(lists.all)), lists.all), _BLOCKS),
            segments=segments,
            rejects=_write(store, _reject_rows(run), _REJECTS),
            tombstones=_write(store, map(_tombstones_row, files.items()), _TOMBSTONES) if files else None,
            keys=_write(store, (_keys_row(marker, len(keys)) for marker in keys), _KEYS) if keys else None,
            containers=_containers(run),
        ),
        next_shard=run.plan.first_shard + run.plan.shards,
        canaries=trained.canaries,
        drift=None if base is None or inventory.retrains(run) else run.drift.drift,
    )
    return store.commit(layout.generation(run.generation), manifest.seal(generation))


def merged_pieces(run: Run) -> list[PieceMarker]:
    """Reads the markers of a merged file, its head (number 0) and every range of lists, in order of offset."""
    return run.markers("merge", run.numbers("merge"), PieceMarker)


def merged_segments(run: Run) -> list[SegmentMarker]:
    """Reads the markers of the segments of an index on an object store, in order of their lists."""
    return run.markers("merge", run.numbers("merge"), SegmentMarker)


@dataclass(frozen=True)
class _Merged:
    """The merged index of a run: what names it, the rows of its table, how many vectors, and what is not there."""

    index: FileReference
    segments: list[dict[str, Any]]
    rows: int
    missing: list[FileReference]


def _merged(run: Run, trained: TrainedIndex) -> _Merged:
    return _pieces(run, trained) if run.store.local is not None else _segments(run, trained)


def _pieces(run: Run, trained: TrainedIndex) -> _Merged:
    pieces, path = merged_pieces(run), layout.merged_index(run.generation)
    segments = [_segment_row(path, piece) for piece in pieces]
    index = FileReference(path, sum(piece.bytes for piece in pieces), f"pieces:{digest(segments)}")
    entry = trained.code_size + ID_BYTES
    rows, rest = divmod(sum(piece.bytes for piece in pieces if piece.number), entry)
    if rest:
        raise PixdexError(
            f"{run.store.url}/{path} has {rows * entry + rest} bytes of lists, no multiple of the {entry} that a "
            "vector takes: start again with --abandon-plan"
        )
    return _Merged(index, segments, rows, [] if run.store.holds(index) else [index])


def _segments(run: Run, trained: TrainedIndex) -> _Merged:
    markers = merged_segments(run)
    segments = [
        {"first_list": marker.first_list, "last_list": marker.last_list, "offset": 0, **asdict(marker.lists)}
        for marker in markers
    ]
    edges = [0, *(marker.last_list for marker in markers)]
    if [marker.first_list for marker in markers] != edges[:-1] or edges[-1] != trained.nlist:
        raise PixdexError(f"{run.store.url}: the segments do not cover all lists: start again with --abandon-plan")
    size = sum(marker.lists.bytes for marker in markers)
    index = FileReference(layout.index_folder(run.generation), size, f"{SEGMENTS}{digest(segments)}")
    missing = [marker.lists for marker in markers if not run.store.holds(marker.lists)]
    return _Merged(index, segments, sum(marker.rows for marker in markers), missing)


def _check_whole(run: Run, merged: _Merged | None, alive: int, listed: int, shards: Sequence[ShardMarker]) -> None:
    """Counts the same rows in the key tables, in shards less their tombstones, and in all lists."""
    dead = inventory.dead_rows(run)
    counts = dead.count_by_shard
    stored = sum(marker.rows - min(marker.rows, counts.get(marker.shard, 0)) for marker in shards)
    agree = alive <= listed <= alive + dead.rows if merged is None else alive == listed == merged.rows
    if stored != alive or not agree:
        kept = "" if merged is None else f", the merged index {merged.rows}"
        raise PixdexError(
            f"{run.store.url}: shards hold {stored} live rows, the key tables {alive}, their shard indexes {listed}"
            f"{kept}: start again with --abandon-plan"
        )
    for file in merged.missing if merged is not None else []:
        raise PixdexError(
            f"{run.store.url}/{file.path} is not {file.bytes} bytes long: start again with --abandon-plan"
        )


def _totals(
    run: Run, keys: Sequence[KeysMarker], shards: Sequence[ShardMarker], blocks: Sequence[BlockMember], dead: int
) -> Totals:
    if keys:
        items, rejected = sum(marker.entries for marker in keys), sum(marker.rejected for marker in keys)
        counts = {name: sum(getattr(marker, name) for marker in keys) for name in ("images", "texts", "keywords")}
    else:
        buried = inventory.dead_rows(run).count_by_shard
        alive = [marker for marker in shards if marker.shard not in buried]  # of ready embeddings: all rows or none
        items, rejected = sum(marker.items for marker in alive), sum(marker.rejected for marker in alive)
        counts = {name: sum(getattr(marker, name) for marker in alive) for name in ("images", "texts", "keywords")}
    return Totals(
        items=items,
        embedded=items - rejected,
        rejected=rejected,
        vectors=sum(counts.values()),
        tombstones=dead,
        **counts,
        shards=len(shards),
        blocks=len(blocks),
    )


def _shard_row(marker: ShardMarker) -> dict[str, Any]:
    counts = {name: getattr(marker, name) for name in _SHARD_COUNTS}
    ready = {"ready": asdict(marker.ready) if marker.ready else None}
    return counts | (asdict(marker.embeddings) if marker.embeddings else {}) | ready


def _block_row(number: int, block: BlockMember) -> dict[str, Any]:
    counts = {name: getattr(block, name) for name in ("rows", "first_shard", "last_shard", "merged")}
    return {"block": number, **counts, **asdict(block.lists)}


def _reject_rows(run: Run) -> list[dict[str, Any]]:
    """The files of rejects: the base's, less what was forgotten, and the run's own."""
    found: dict[int, RejectsFile] = {}
    if run.base is not None:
        for row in parquet_files.read(run.store, run.base.tables.rejects).to_pylist():
            found[row["shard"]] = RejectsFile(row["shard"], row["rejected"], tables.file_of(row))
    for changed in inventory.tombstone_markers(run):
        found.update((file.shard, file) for file in changed.rejects)
    found.update((marker.shard, RejectsFile(marker.shard, marker.rejected, marker.rejects)) for marker in run.shards())
    buried = inventory.dead_rows(run).count_by_shard
    for marker in inventory.all_shards(run):
        if marker.ready and marker.shard in buried:  # a file that is gone takes its rejects along
            found.pop(marker.shard, None)
    return [
        {"shard": shard, "rejected": file.rejected, **asdict(file.file)}
        for shard, file in sorted(found.items())
        if file.file is not None
    ]


def _containers(run: Run) -> FileReference | None:
    planned = run.plan.containers
    return None if planned is None else parquet_files.write_table(run.store, parquet_files.read(run.store, planned))


def _tombstones_row(folder: tuple[int, tuple[int, FileReference]]) -> dict[str, Any]:
    number, (rows, file) = folder
    return {"folder": number, "rows": rows, **asdict(file)}


def _keys_row(marker: KeysMarker, buckets: int) -> dict[str, Any]:
    counts = {name: getattr(marker, name) for name in _KEY_COUNTS}
    return {"bucket": marker.number, "bits": buckets.bit_length() - 1, **counts, **asdict(marker.file)}


def _segment_row(path: str, piece: PieceMarker) -> dict[str, Any]:
    return {
        "first_list": piece.first_list,
        "last_list": piece.last_list,
        "offset": piece.offset,
        "bytes": piece.bytes,
        "path": path,
        "checksum": piece.checksum,
    }


def _write(store: Store, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> FileReference:
    return parquet_files.write_table(store, pa.Table.from_pylist(list(rows), schema=schema))
