"""How many bytes a generation has, by kind: as its tables say, no file is looked at."""

from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.records import FileReference
from transforms.storage import parquet_files
from transforms.storage.store import Store


def bytes_of(store: Store, generation: Generation) -> dict[str, int]:
    """Returns the bytes of each kind of file. Cost: reads the tables."""
    listed, trained = generation.tables, generation.trained

    def total(table: FileReference | None) -> int:
        if table is None:
            return 0
        listed_sizes: list[int | None] = parquet_files.read(store, table)["bytes"].to_pylist()
        return sum(size for size in listed_sizes if size)

    return {
        "embeddings": total(listed.shards),
        "lists": total(listed.blocks),
        "vectors": sum(block.vectors.bytes for block in tables.blocks_of(store, generation) if block.vectors),
        "index": generation.index.bytes,
        "trained": sum(file.bytes for file in (trained.index, trained.training, trained.assignment) if file),
        "rejects": total(listed.rejects),
        "keys": total(listed.keys),
        "tombstones": total(listed.tombstones),
        "tables": sum(table.bytes for table in listed.all),
    }
