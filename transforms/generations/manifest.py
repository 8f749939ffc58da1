"""The manifest of a generation: what it holds, and its seal, a checksum of itself, since nothing else names it."""

from dataclasses import dataclass, replace
from typing import Final

from transforms.errors import PixdexError
from transforms.markers import Drift, TrainedIndex
from transforms.records import FORMAT_VERSION, FileReference, Request, digest
from transforms.storage import layout
from transforms.storage.store import Store

SEGMENTS: Final = "segments:"
"""How the checksum of an index begins that lies on storage as segments."""


@dataclass(frozen=True)
class Totals:
    """Counts of a generation: `items = embedded + rejected`; `vectors` are the rows that can be found.

    `tombstones` are codes of dead rows that a search scans and drops: the lists hold `vectors + tombstones` codes.
    """

    items: int
    embedded: int
    rejected: int
    vectors: int
    tombstones: int
    images: int
    texts: int
    keywords: int
    shards: int
    blocks: int


@dataclass(frozen=True)
class Tables:
    """The parquet files that list what a generation is made of.

    Attributes:
        tombstones: the files with the dead rows of shards; None: none was ever removed.
        keys: the hash buckets of (key, version, rows) of all items; None: of ready embeddings, whose ranges say it.
        containers: versions of the files that need not be opened while these are the same.
    """

    shards: FileReference
    blocks: FileReference
    segments: FileReference
    rejects: FileReference
    tombstones: FileReference | None = None
    keys: FileReference | None = None
    containers: FileReference | None = None

    @property
    def all(self) -> tuple[FileReference, ...]:
        """Those that are there."""
        named = (
            self.shards, self.blocks, self.segments, self.rejects, self.tombstones, self.keys, self.containers,
        )  # fmt: skip
        return tuple(table for table in named if table is not None)


@dataclass(frozen=True)
class Generation:
    """An immutable manifest that names everything a search needs.

    Attributes:
        index: the merged index; what was added since, the deltas, are the blocks that are not `merged`.
        canaries: queries that watch the trained index, with their exact neighbours.
        drift: what the run that made it found; None where it began from nothing or trained anew.
        checksum: of all the rest (see `seal`).
    """

    generation: int
    request: Request
    request_digest: str
    totals: Totals
    trained: TrainedIndex
    index: FileReference
    tables: Tables
    next_shard: int
    canaries: FileReference | None = None
    drift: Drift | None = None
    checksum: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def is_segmented(self) -> bool:
        """Whether the merged index lies on storage as segments, whose table has their files, and not as one file."""
        return self.index.checksum.startswith(SEGMENTS)


def seal(generation: Generation) -> Generation:
    """Returns a manifest with the checksum of the rest of it."""
    unsealed = replace(generation, checksum="")
    return replace(unsealed, checksum=digest(unsealed))


def read(store: Store, number: int) -> Generation:
    """Reads the manifest of a generation.

    Raises:
        PixdexError: there is none, or it is damaged.
    """
    path = layout.generation(number)
    generation = store.read_record(path, Generation)
    if generation.checksum and generation != seal(generation):
        raise PixdexError(
            f"{store.url}/{path} is damaged, it does not match its checksum: restore it from a backup, or delete it to "
            "go back to the generation before"
        )
    return generation
