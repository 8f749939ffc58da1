"""The manifest of a generation: what it holds, and its seal, a checksum of itself, since nothing else names it."""

from dataclasses import astuple, dataclass, replace
from typing import Final

from transforms.digests import digest
from transforms.errors import PixdexError
from transforms.generations.tuned import Tuned
from transforms.markers import Drift, TrainedIndex
from transforms.records import DERIVED_VERSION, FORMAT_VERSION, STORED_VERSION, FileReference, Modality, Request
from transforms.storage import layout
from transforms.storage.store import Store

SEGMENTS: Final = "segments:"
"""How the checksum of an index begins that lies on storage as segments."""

PIECES: Final = "pieces"
"""Scheme of the checksum of an index that is one file: the digest of its ranges, each of which has its own checksum."""


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
        hidden: keys of items that no search returns; None: all are shown.
    """

    shards: FileReference
    blocks: FileReference
    segments: FileReference
    rejects: FileReference
    tombstones: FileReference | None = None
    keys: FileReference | None = None
    containers: FileReference | None = None
    hidden: FileReference | None = None

    @property
    def all(self) -> tuple[FileReference, ...]:
        """Those that are there."""
        named = (
            self.shards, self.blocks, self.segments, self.rejects, self.tombstones, self.keys, self.containers,
            self.hidden,
        )  # fmt: skip
        return tuple(table for table in named if table is not None)


@dataclass(frozen=True)
class Generation:
    """An immutable manifest that names everything a search needs.

    Attributes:
        index: the merged index; what was added since, the deltas, are the blocks that are not `merged`.
        canaries: queries that watch the trained index, with their exact neighbours.
        drift: what the run that made it found; None where it began from nothing or trained anew.
        tuned: how far searches go that do not say; None: as it was trained.
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
    tuned: Tuned | None = None
    checksum: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def is_segmented(self) -> bool:
        """Whether the merged index lies on storage as segments, whose table has their files, and not as one file."""
        return self.index.checksum.startswith(SEGMENTS)

    @property
    def only_modality(self) -> Modality | None:
        """What all vectors are of; None: they are of several kinds, or there are none."""
        totals = self.totals
        counts: dict[Modality, int] = {"image": totals.images, "text": totals.texts, "keyword": totals.keywords}
        there = [modality for modality, count in counts.items() if count]
        return there[0] if len(there) == 1 else None


def version_of(request: Request, hidden: FileReference | None, tuned: Tuned | None) -> int:
    """Returns the version of a generation: an older pixdex would find what is hidden, and must refuse it by name."""
    if tuned is not None:
        return max(request.format_version, DERIVED_VERSION)
    return request.format_version if hidden is None else max(request.format_version, STORED_VERSION)


def seal(generation: Generation) -> Generation:
    """Returns a manifest with the checksum of the rest of it."""
    unsealed = replace(generation, checksum="")
    return replace(unsealed, checksum=digest(unsealed))


def read(store: Store, number: int) -> Generation:
    """Reads the manifest of a generation.

    Raises:
        PixdexError: there is none, or it is damaged, not sealed, or that of another generation.
    """
    path = layout.generation(number)
    generation = store.read_record(path, Generation)
    why = _doubt(generation, number)
    if why is not None:
        raise PixdexError(
            f"{store.url}/{path} is damaged, {why}: restore it from a backup, or delete it to go back to the "
            "generation before"
        )
    return generation


def _doubt(generation: Generation, number: int) -> str | None:
    """Says why a manifest is not believed; every one that was ever published is sealed."""
    if not generation.checksum:
        return "it has no checksum of itself"
    if generation != seal(generation):
        return "it does not match its checksum"
    if generation.generation != number:
        return f"it is that of generation {generation.generation}"
    trained, totals = generation.trained, generation.totals
    if min(trained.dim, trained.nlist, trained.code_size, trained.nprobe) < 1 or generation.next_shard < 0:
        return "it names an index that cannot be"
    return None if min(astuple(totals)) >= 0 else "it counts less than nothing"
