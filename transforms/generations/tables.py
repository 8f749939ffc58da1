"""What a published generation is made of, read from its tables: its shards, its blocks, its key buckets."""

from dataclasses import dataclass, fields
from typing import Any

from transforms.generations.key_tables import Bucket
from transforms.generations.manifest import Generation
from transforms.markers import ListsMarker, ShardMarker
from transforms.records import FileReference, Plan, VectorRange
from transforms.storage import parquet_files
from transforms.storage.store import Store


@dataclass(frozen=True)
class BlockMember:
    """A shard index of a generation: its lists, the shards it was made of, and whether the merged index has it."""

    lists: FileReference
    rows: int
    first_shard: int
    last_shard: int
    merged: bool

    @property
    def marker(self) -> ListsMarker:
        """As the add stage would have left it; the number and the digest do not matter any more."""
        return ListsMarker(0, "", self.rows, self.lists)


def shards_of(store: Store, generation: Generation) -> list[ShardMarker]:
    """Returns the shards of a generation in order of their numbers, as the embed stage left them.

    Cost: about 10 microseconds a shard, and 1 KB of memory.
    """
    named = {field.name for field in fields(ShardMarker)}
    found = []
    for row in parquet_files.read(store, generation.tables.shards).to_pylist():
        counts = {name: value for name, value in row.items() if name in named and name != "ready"}
        ready = VectorRange(**row["ready"]) if row.get("ready") else None
        embeddings = file_of(row) if row["path"] else None
        found.append(ShardMarker(**counts, digest="", embeddings=embeddings, rejects=None, seconds=0.0, ready=ready))
    return sorted(found, key=lambda marker: marker.shard)


def blocks_of(store: Store, generation: Generation) -> list[BlockMember]:
    """Returns the shard indexes of a generation, the merged ones and the deltas, in order of their shards."""
    rows = parquet_files.read(store, generation.tables.blocks).to_pylist()
    found = [
        BlockMember(file_of(row), row["rows"], row["first_shard"], row["last_shard"], row["merged"])
        for row in rows
        if "merged" in row  # a root of before there were deltas has none
    ]
    return sorted(found, key=lambda block: block.first_shard)


def buckets_of(store: Store, generation: Generation) -> list[Bucket]:
    """Returns the hash buckets of a generation's key tables."""
    if generation.tables.keys is None:
        return []
    rows = parquet_files.read(store, generation.tables.keys).to_pylist()
    return [Bucket(row["bucket"], row["bits"], file_of(row)) for row in rows]


def removed_of(store: Store, plan: Plan) -> list[Bucket]:
    """Returns the files with the entries that a plan removes, each of a hash bucket."""
    if plan.removed is None:
        return []
    rows = parquet_files.read(store, plan.removed).to_pylist()
    return [Bucket(row["bucket"], row["bits"], file_of(row)) for row in rows]


def rejects_of(store: Store, generation: Generation) -> dict[int, FileReference]:
    """Returns the files of rejects of a generation by their shards."""
    return {row["shard"]: file_of(row) for row in parquet_files.read(store, generation.tables.rejects).to_pylist()}


def tombstones_of(store: Store, generation: Generation) -> dict[int, tuple[int, FileReference]]:
    """Returns how many rows are dead and the file that says which, by folder of shards."""
    if generation.tables.tombstones is None:
        return {}
    rows = parquet_files.read(store, generation.tables.tombstones).to_pylist()
    return {row["folder"]: (row["rows"], file_of(row)) for row in rows}


def containers_of(store: Store, generation: Generation) -> dict[str, str]:
    """Returns the versions of the containers that need not be opened while these are the same."""
    if generation.tables.containers is None:
        return {}
    rows = parquet_files.read(store, generation.tables.containers).to_pylist()
    return {row["uri"]: row["version"] for row in rows}


def file_of(row: dict[str, Any]) -> FileReference:
    """Returns the file that a row of a table names."""
    return FileReference(row["path"], row["bytes"], row["checksum"])
