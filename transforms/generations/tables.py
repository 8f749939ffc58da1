"""The tables of a generation: what a row of each is, how it is written, and how it is read.

| table | a row is |
|---|---|
| shards | a shard of embeddings: its file, or the range of ready embeddings that it stands for, and its counts |
| blocks | a shard index, merged or a delta |
| segments | a range of lists of the merged index: of one file, or a file of its own |
| rejects | the rejects of a shard |
| tombstones | the dead rows of a folder of shards |
| keys | a hash bucket of the key tables |
| containers | a source's file that need not be opened while its version is the same; a count of what is left out |
| hidden | the key of an item that no search returns |

Every row that names a file below the root has its `path`, `bytes` and `checksum`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import pyarrow as pa

from transforms.errors import UnsafePathError, UsageError
from transforms.generations.key_tables import Bucket
from transforms.generations.manifest import Generation
from transforms.markers import KeysMarker, ListsMarker, PieceMarker, RejectsFile, SegmentMarker, ShardMarker
from transforms.ready_range import VectorRange
from transforms.records import FileReference, Plan
from transforms.storage import parquet_files
from transforms.storage.outside import Outside
from transforms.storage.parquet_files import FILE, READY, with_ready
from transforms.storage.store import Store, damaged

Row = Mapping[str, Any]
"""A row of a table as Arrow gives and takes it, by the names of its columns."""


def file_of(row: Row) -> FileReference:
    """Returns the file that a row of a table names."""
    return FileReference(row["path"], row["bytes"], row["checksum"])


def _counts(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.int64()) for name in names]


def _write(store: Store, rows: Iterable[Row], schema: pa.Schema) -> FileReference:
    return parquet_files.write_table(store, pa.Table.from_pylist(list(rows), schema=schema))


def _read(
    store: Store, table: FileReference | None, schema: pa.Schema, may_lack: Collection[str] = ()
) -> list[dict[str, Any]]:
    return [] if table is None else parquet_files.read_rows(store, table, schema, may_lack)


def named_in_manifest(generation: Generation) -> list[FileReference]:
    """Returns every file that a generation names by itself: of the trained index, canaries, tables, a merged file."""
    trained = generation.trained
    spread = None if generation.tuned is None else generation.tuned.spread
    named = [trained.index, trained.training, trained.assignment, generation.canaries, spread, *generation.tables.all]
    if not generation.is_segmented:
        named.append(generation.index)
    return [file for file in named if file is not None]


def named_in_table(store: Store, generation: Generation, table: FileReference) -> list[FileReference]:
    """Returns every file that a table of a generation lists.

    Raises:
        PixdexError: the table is missing or damaged.
    """
    listed = generation.tables
    readers: dict[FileReference | None, Callable[[Store, Generation], list[dict[str, Any]]]] = {
        listed.shards: shard_rows,
        listed.blocks: block_rows,
        listed.segments: segment_rows,
        listed.rejects: reject_rows,
        listed.tombstones: tombstone_rows,
        listed.keys: key_rows,
        listed.containers: lambda store, generation: _containers(store, generation.tables.containers),
        listed.hidden: lambda store, generation: _read(store, generation.tables.hidden, HIDDEN),
    }
    rows = readers[table](store, generation)
    if table in (listed.containers, listed.hidden, None) or (table == listed.segments and not generation.is_segmented):
        return []  # containers are elsewhere, and the ranges of one file are no files
    stored = [file_of(row["vectors"]) for row in rows if row.get("vectors")]
    return [*(file_of(row) for row in rows if row["path"]), *stored]


def references(store: Store, generation: Generation) -> list[FileReference]:
    """Returns every file below the root that a generation needs, with its size and checksum; itself left out.

    Raises:
        PixdexError: a table is missing or damaged.
    """
    listed = (file for table in generation.tables.all for file in named_in_table(store, generation, table))
    return [*named_in_manifest(generation), *listed]


# --- shards ------------------------------------------------------------------------------------------------------

_SHARD_COUNTS: Final = ("shard", "block", "items", "rejected", "rows", "images", "texts", "keywords")
_SHARDS: Final = pa.schema([*_counts(*_SHARD_COUNTS), *FILE, ("ready", READY)])
"""Counts are those of the embedding: rows that died since are in them."""


def write_shards(store: Store, shards: Sequence[ShardMarker]) -> FileReference:
    """Writes the table of shards."""
    return _write(store, map(_shard_row, shards), with_ready(_SHARDS, [marker.ready for marker in shards]))


def shard_rows(store: Store, generation: Generation) -> list[dict[str, Any]]:
    """Returns the rows of the table of shards; of a shard without a row, or of ready embeddings, `path` is None."""
    table = generation.tables.shards
    rows = _read(store, table, _SHARDS, ("path", "bytes", "checksum", "ready"))
    with parquet_files.making_sense_of(store, table.path):
        for ready in map(range_of, rows):
            if ready is not None and not 0 <= ready.start <= ready.stop:
                raise ValueError(f"a shard has rows {ready.start} to {ready.stop} of a file")
    return rows


def shards_of(store: Store, generation: Generation) -> list[ShardMarker]:
    """Returns the shards of a generation in order of their numbers, as the embed stage left them.

    Cost: about 10 microseconds a shard, and 1 KB of memory.

    Raises:
        PixdexError: the table is missing or damaged.
        UsageError: ready embeddings are not where the sources of the generation are.
    """
    named = {field.name for field in fields(ShardMarker)}
    shards = []
    for row in shard_rows(store, generation):
        counts = {name: value for name, value in row.items() if name in named and name != "ready"}
        ready = ready_of(store, generation, row)
        embeddings = file_of(row) if row["path"] else None
        shards.append(ShardMarker(**counts, digest="", embeddings=embeddings, rejects=None, seconds=0.0, ready=ready))
    return sorted(shards, key=lambda marker: marker.shard)


def range_of(row: Row) -> VectorRange | None:
    """Returns the ready embeddings that a row of the table of shards stands for, or None."""
    return VectorRange(**row["ready"]) if row.get("ready") else None


def ready_of(store: Store, generation: Generation, row: Row) -> VectorRange | None:
    """Returns the same, of a row of a generation.

    Raises:
        UsageError: they are not where the sources of the generation are.
    """
    ready = range_of(row)
    if ready is None:
        return None
    try:
        Outside.of_ready(generation.request).check_ready(ready)
    except UnsafePathError as error:
        raise UsageError(f"{store.full(generation.tables.shards.path)}: {error}") from error
    return ready


def _shard_row(marker: ShardMarker) -> Row:
    row = {name: getattr(marker, name) for name in _SHARD_COUNTS} | {"ready": marker.ready and asdict(marker.ready)}
    return row | (asdict(marker.embeddings) if marker.embeddings else {})


# --- blocks ------------------------------------------------------------------------------------------------------

_BLOCK_COUNTS: Final = ("block", "rows", "first_shard", "last_shard")
_VECTORS: Final = pa.struct(FILE)
_BLOCKS: Final = pa.schema([*_counts(*_BLOCK_COUNTS), ("merged", pa.bool_()), *FILE, ("vectors", _VECTORS)])
"""Shard indexes; those that are not `merged` are deltas, which a search scans beside the merged index."""


@dataclass(frozen=True)
class BlockMember:
    """A shard index of a generation: its lists, the shards it was made of, and whether the merged index has it.

    `vectors` is the file with the rows of these shards as they are; None: they are not stored, or lie elsewhere.
    """

    lists: FileReference
    rows: int
    first_shard: int
    last_shard: int
    merged: bool
    vectors: FileReference | None = None

    @classmethod
    def of(cls, row: Row) -> "BlockMember":
        """Reads a row of the table; where it does not say what is merged, all is."""
        vectors, merged = row.get("vectors"), row.get("merged", True)
        shards = row["first_shard"], row["last_shard"]
        return cls(file_of(row), row["rows"], *shards, merged, file_of(vectors) if vectors else None)

    @property
    def marker(self) -> ListsMarker:
        """As the add stage would have left it; number and digest do not matter any more."""
        return ListsMarker(0, "", self.rows, self.lists, vectors=self.vectors)


def write_blocks(store: Store, blocks: Sequence[BlockMember]) -> FileReference:
    """Writes the table of shard indexes; where none has its vectors stored, it has no column of them."""
    schema = _BLOCKS if any(block.vectors for block in blocks) else _BLOCKS.remove(len(_BLOCKS) - 1)
    return _write(store, map(_block_row, range(len(blocks)), blocks), schema)


def block_rows(store: Store, generation: Generation) -> list[dict[str, Any]]:
    """Returns the rows of the table of shard indexes; those of before there were deltas do not say what is merged."""
    return _read(store, generation.tables.blocks, _BLOCKS, ("merged", "vectors"))


def blocks_of(store: Store, generation: Generation) -> list[BlockMember]:
    """Returns the shard indexes of a generation, the merged ones and the deltas, in order of their shards."""
    rows = (row for row in block_rows(store, generation) if "merged" in row)  # of before there were deltas, none is
    return sorted(map(BlockMember.of, rows), key=lambda block: block.first_shard)


def _block_row(number: int, block: BlockMember) -> Row:
    counts = {name: getattr(block, name) for name in ("rows", "first_shard", "last_shard", "merged")}
    return {"block": number, **counts, **asdict(block.lists), "vectors": block.vectors and asdict(block.vectors)}


# --- segments ----------------------------------------------------------------------------------------------------

_SEGMENTS: Final = pa.schema([*_counts("first_list", "last_list", "offset"), *FILE])


def write_segments(store: Store, rows: Iterable[Row]) -> FileReference:
    """Writes the table of the ranges of a merged index, of rows that `piece_row` or `segment_row` made."""
    return _write(store, rows, _SEGMENTS)


def segment_rows(store: Store, generation: Generation) -> list[dict[str, Any]]:
    """Returns the rows of the table of ranges of the merged index."""
    return _read(store, generation.tables.segments, _SEGMENTS)


def piece_row(path: str, piece: PieceMarker) -> Row:
    """Returns the row of a range of lists that stands in one file with the others."""
    named = ("first_list", "last_list", "offset", "bytes", "checksum")
    return {"path": path, **{name: getattr(piece, name) for name in named}}


def segment_row(segment: SegmentMarker) -> Row:
    """Returns the row of a range of lists that is a file of its own."""
    return {"first_list": segment.first_list, "last_list": segment.last_list, "offset": 0, **asdict(segment.lists)}


# --- rejects -----------------------------------------------------------------------------------------------------

_REJECTS: Final = pa.schema([*_counts("shard", "rejected"), *FILE])


def write_rejects(store: Store, rejects: Mapping[int, RejectsFile]) -> FileReference:
    """Writes the table of the files of rejects, given by their shards; a shard without a file has no row."""
    rows = (
        {"shard": shard, "rejected": rejected.rejected, **asdict(rejected.file)}
        for shard, rejected in sorted(rejects.items())
        if rejected.file is not None
    )
    return _write(store, rows, _REJECTS)


def reject_rows(store: Store, generation: Generation) -> list[dict[str, Any]]:
    """Returns the rows of the table of rejects."""
    return _read(store, generation.tables.rejects, _REJECTS)


def rejects_of(store: Store, generation: Generation) -> dict[int, RejectsFile]:
    """Returns the files of rejects of a generation by their shards."""
    rows = reject_rows(store, generation)
    return {row["shard"]: RejectsFile(row["shard"], row["rejected"], file_of(row)) for row in rows}


# --- tombstones --------------------------------------------------------------------------------------------------

_TOMBSTONES: Final = pa.schema([*_counts("folder", "rows"), *FILE])


def write_tombstones(store: Store, files: Mapping[int, tuple[int, FileReference]]) -> FileReference | None:
    """Writes the table of the dead rows, given as `tombstones_of` returns them; none are no table."""
    rows = [{"folder": folder, "rows": dead, **asdict(file)} for folder, (dead, file) in files.items()]
    return _write(store, rows, _TOMBSTONES) if rows else None


def tombstone_rows(store: Store, generation: Generation) -> list[dict[str, Any]]:
    """Returns the rows of the table of tombstones; none where nothing was ever removed."""
    return _read(store, generation.tables.tombstones, _TOMBSTONES)


def tombstones_of(store: Store, generation: Generation) -> dict[int, tuple[int, FileReference]]:
    """Returns how many rows are dead and the file that says which, by folder of shards."""
    return {row["folder"]: (row["rows"], file_of(row)) for row in tombstone_rows(store, generation)}


# --- key buckets -------------------------------------------------------------------------------------------------

_KEY_COUNTS: Final = ("entries", "rejected", "images", "texts", "keywords")
_KEYS: Final = pa.schema([*_counts("bucket", "bits", *_KEY_COUNTS), *FILE])
_REMOVED: Final = pa.schema([*_counts("bucket", "bits"), *FILE])
"""What a table of hash buckets has at least; that of the entries that a plan removes has no more."""


def write_keys(store: Store, markers: Sequence[KeysMarker]) -> FileReference | None:
    """Writes the table of all hash buckets of the key tables; none are no table."""
    bits = len(markers).bit_length() - 1
    return _write(store, (_keys_row(marker, bits) for marker in markers), _KEYS) if markers else None


def key_rows(store: Store, generation: Generation) -> list[dict[str, Any]]:
    """Returns the rows of the table of hash buckets; none of ready embeddings."""
    return _read(store, generation.tables.keys, _KEYS)


def buckets_of(store: Store, generation: Generation) -> list[Bucket]:
    """Returns the hash buckets of a generation's key tables."""
    return _buckets(store, generation.tables.keys)


def removed_of(store: Store, plan: Plan) -> list[Bucket]:
    """Returns the files with the entries that a plan removes, each of a hash bucket."""
    return _buckets(store, plan.removed)


def _buckets(store: Store, table: FileReference | None) -> list[Bucket]:
    return [Bucket(row["bucket"], row["bits"], file_of(row)) for row in _read(store, table, _REMOVED)]


def _keys_row(marker: KeysMarker, bits: int) -> Row:
    counts = {name: getattr(marker, name) for name in _KEY_COUNTS}
    return {"bucket": marker.number, "bits": bits, **counts, **asdict(marker.file)}


# --- containers --------------------------------------------------------------------------------------------------

HIDDEN: Final = pa.schema([("key", pa.string())])
_CONTAINERS: Final = pa.schema([("uri", pa.string()), ("version", pa.string())])
_BESIDE: Final = [("left_out", pa.string()), ("count", pa.int64())]
"""Of a source: how many files of a kind were not taken; without a kind, how many names `--key-pattern` does not match.

Such rows have no version. Tables of sources that have none, and of before there were any, have no such columns.
"""


def container_rows(
    versions: Iterable[tuple[str, str]], left_out: Mapping[str, Mapping[str, int]], unnamed: Mapping[str, int]
) -> pa.Table:
    """Returns the table of containers.

    Args:
        versions: URI and version of files that need not be opened while it is the same.
        left_out: how many files of each kind were not taken, by the pattern of the source.
        unnamed: pictures whose names `--key-pattern` does not match, likewise.
    """
    rows: list[Row] = [{"uri": uri, "version": version} for uri, version in versions]
    beside: list[Row] = [
        {"uri": pattern, "left_out": kind, "count": count}
        for pattern, kinds in left_out.items()
        for kind, count in kinds.items()
    ]
    beside += [{"uri": pattern, "count": count} for pattern, count in unnamed.items()]
    schema = pa.schema([*_CONTAINERS, *_BESIDE]) if beside else _CONTAINERS
    return pa.Table.from_pylist([*rows, *beside], schema=schema)


def write_containers(store: Store, planned: FileReference | None) -> FileReference | None:
    """Writes the table of containers as a plan has it, below the tables that generations share."""
    return None if planned is None else parquet_files.write_table(store, parquet_files.read(store, planned))


def containers_of(store: Store, generation: Generation) -> dict[str, str]:
    """Returns the versions of the containers that need not be opened while these are the same."""
    rows = _containers(store, generation.tables.containers)
    return {row["uri"]: row["version"] for row in rows if row.get("version") is not None}


def left_out_of(store: Store, containers: FileReference | None) -> dict[str, int]:
    """Returns how many files of each kind were not taken, of the table that a plan or a generation names."""
    counts: Counter[str] = Counter()
    for row in _containers(store, containers):
        if row.get("left_out") is not None:
            counts[row["left_out"]] += row["count"]
    return dict(sorted(counts.items()))


def unnamed_of(store: Store, containers: FileReference | None) -> int:
    """Returns how many pictures have names that `--key-pattern` does not match, likewise."""
    rows = _containers(store, containers)
    return sum(row["count"] for row in rows if row.get("version") is None and row.get("left_out") is None)


def _containers(store: Store, containers: FileReference | None) -> list[dict[str, Any]]:
    rows = _read(store, containers, pa.schema([*_CONTAINERS, *_BESIDE]), ("version", "left_out", "count"))
    if containers is not None and any(row.get("version") is None and row.get("count") is None for row in rows):
        raise damaged(store, containers.path, "it has a row that says nothing")
    return rows
