"""The data model: what is asked for, planned, written and published, as frozen records.

Words are those of the README: an *item* has a *key* and becomes one or more *rows*; rows fill *shards*; shards are
grouped into *blocks*; a *generation* names everything that a search needs. Records travel between workers and lie on
storage as JSON with sorted keys (`encode` and `decode`); none of them holds a vector or a picture.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError

FORMAT_VERSION = 2
"""Version of every record on storage; a reader refuses a higher one. Since 2 a generation has key tables."""

ROW_BITS = 16
ROWS_PER_SHARD = 1 << ROW_BITS
"""A shard holds at most this many rows, so that `id = shard << 16 | row` is arithmetic and not a join."""

Modality = Literal["image", "text", "keyword"]
MODALITIES: tuple[Modality, ...] = ("image", "text", "keyword")
"""In the order in which a shard stores them: the rows of one modality are consecutive."""

Metric = Literal["ip", "l2", "l1"]
"""Inner product (higher is nearer), squared Euclidean distance, and sum of absolute differences (lower is nearer)."""

T = TypeVar("T")


def row_ids(shard: int, rows: int) -> NDArray[np.int64]:
    """Returns the ids, int64 `(rows,)`, of the first `rows` rows of a shard.

    >>> row_ids(2, 3).tolist()
    [131072, 131073, 131074]
    """
    return (shard << ROW_BITS) + np.arange(rows, dtype=np.int64)


def split_ids(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the shard and the row, each int64, of every id.

    >>> [part.tolist() for part in split_ids(np.array([5, 131074]))]
    [[0, 2], [5, 2]]
    """
    return ids >> ROW_BITS, ids & (ROWS_PER_SHARD - 1)


# --- what the user asked for --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One place that items come from: a glob or folder of pictures, a CSV file, or ready embeddings.

    Attributes:
        kind: `images` (each file an item), `csv` (each row an item) or `vectors` (each row an item, embedded already).
        pattern: absolute URL of a file, a folder or a glob.
        image_column, text_column, keyword_column: CSV columns that are embedded; at least one is set for `csv`.
        key_column: CSV column of the primary key; without one a row is named by the hash of its content.
        keyword_separator: what the cells of `keyword_column` are split on.
        key_pattern: regular expression (RE2 syntax) whose named groups, matched against a picture's file name without
            its ending, become columns.
        vector_column: column of a parquet file that holds the vectors.
        metadata: absolute URL of a file or glob: parquet files with a row for each vector of the `.npy` files, which
            they follow file by file in the order of their names.
        modality: what the vectors are of.
    """

    kind: Literal["images", "csv", "vectors"]
    pattern: str
    image_column: str | None = None
    text_column: str | None = None
    keyword_column: str | None = None
    key_column: str | None = None
    keyword_separator: str = ","
    key_pattern: str | None = None
    vector_column: str | None = None
    metadata: str | None = None
    modality: Modality = "image"


NO_ENCODER = "none"
"""The encoder of a root whose embeddings were made elsewhere."""


@dataclass(frozen=True)
class EncoderSettings:
    """The encoder of a root and how it is run; its spec is `none` where all embeddings were ready.

    `fingerprint` covers weights, preprocessing (with `image_fit`) and dimension: it decides whether two roots can be
    compared. `batch` and `threads` change the last bits of a vector, so they belong to the request too.
    """

    spec: str
    fingerprint: str
    dim: int
    modalities: tuple[str, ...]
    image_fit: Literal["crop", "pad"] = "crop"
    device: str = "auto"
    batch: int = 64
    threads: int = 1
    pixel_limit: int = 179_000_000
    normalize: bool = True
    precision: Literal["float16", "full"] = "float16"


@dataclass(frozen=True)
class IndexSettings:
    """The index that was asked for: a faiss factory string of the IVF family, `Flat`, or `auto`; and its metric.

    `max_memory` (bytes of the whole index) and `code_size` (bytes a vector, without its id) guide `auto`.
    """

    key: str = "auto"
    metric: Metric = "ip"
    max_memory: int = 16 << 30
    code_size: int | None = None


Retrain = Literal["auto", "never", "always"]


@dataclass(frozen=True)
class Reindex:
    """How a run goes on from a published generation instead of from nothing.

    Attributes:
        base: number of the generation whose items the sources are compared with.
        retrain: whether the index is trained anew: when it drifted, or not at all, or in any case.
        retry: types of rejects that are tried again though nothing changed; empty: of all types; None: of none.
        max_deltas: shard indexes that a search scans beside the merged index; with more, all are merged.
        max_tombstones: share of the codes scanned that may be dead, 0 to 1; with more, they are dropped by a merge.
        repair: items of shards whose files are missing or damaged are embedded anew.
    """

    base: int
    retrain: Retrain = "auto"
    retry: tuple[str, ...] | None = None
    max_deltas: int = 4
    max_tombstones: float = 0.05
    repair: bool = False


@dataclass(frozen=True)
class Request:
    """All that a launcher commits: the same request on the same root is the same run.

    That of a generation has no `reindex`: it says what the generation is of, and not how it came about.
    """

    sources: tuple[Source, ...]
    encoder: EncoderSettings
    index: IndexSettings
    seed: int = 0
    reindex: Reindex | None = None
    format_version: int = FORMAT_VERSION


# --- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileReference:
    """One file of a root: its path relative to the root, its size, and a checksum `scheme:hex`."""

    path: str
    bytes: int
    checksum: str


@dataclass(frozen=True)
class VectorRange:
    """Rows `start` to `stop` (exclusive) of ready embeddings, which stay where they are.

    Attributes:
        uri: absolute URL of the file.
        format: `npy` (2-d, float16 or float32) or `parquet` (`column` holds lists of float16 or float32).
        version: listed size and etag or mtime of the file; another one is another file.
        metadata: absolute URL of a parquet file with the same rows, beside an `.npy`.
        modality: what the vectors are of.
        metadata_version: as `version`, of the metadata.
    """

    uri: str
    format: Literal["npy", "parquet"]
    start: int
    stop: int
    version: str
    column: str | None = None
    metadata: str | None = None
    modality: Modality = "image"
    metadata_version: str | None = None


# --- the plan -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ItemSlice:
    """Items `start` to `stop` (exclusive) of one item table."""

    table: FileReference
    start: int
    stop: int


@dataclass(frozen=True)
class Partition:
    """One shard's slice of the plan: what one call embeds, or a range of ready embeddings (then without slices).

    Attributes:
        shard: number of the shard, never reused in a root.
        block: number of the block that the shard belongs to.
        rows: planned rows; rejects can only lower it.
    """

    shard: int
    block: int
    slices: tuple[ItemSlice, ...]
    items: int
    rows: int
    ready: VectorRange | None = None


@dataclass(frozen=True)
class Changes:
    """What a reindex found, in items; those of a container that was not opened are unchanged.

    `rejected` are those that were rejected before and did not change since; `retried` are unchanged ones that are
    embedded again all the same: rejects, and what damaged shards held.
    """

    new: int
    changed: int
    gone: int
    unchanged: int
    rejected: int
    retried: int


@dataclass(frozen=True)
class Plan:
    """The immutable list of a run's work, committed once, before anything is embedded.

    Attributes:
        containers: table of the containers that need not be opened while their version is the same.
        removed: table of the files with the entries of items that are gone, or come anew; None: there are none.
        changes: what a reindex found; None in a first build, in which everything is new.
    """

    generation: int
    request_digest: str
    partitions: FileReference
    first_shard: int
    shards: int
    blocks: int
    items: int
    rows: int
    index_key: str
    containers: FileReference | None = None
    removed: FileReference | None = None
    changes: Changes | None = None
    format_version: int = FORMAT_VERSION


# --- markers: small files under fixed names that say "this part is done" ---------------------------------------------


@dataclass(frozen=True)
class ShardMarker:
    """A shard is embedded: its file (none when every item was rejected), its rejects, and its counts.

    A shard of ready embeddings has no file of its own: `ready` says where its vectors are. Its ids count the rows of
    that range, rejected ones too, which are in no list; `rows` does not count them.
    """

    shard: int
    block: int
    digest: str
    items: int
    rejected: int
    rows: int
    images: int
    texts: int
    keywords: int
    embeddings: FileReference | None
    rejects: FileReference | None
    seconds: float
    ready: VectorRange | None = None
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class ListsMarker:
    """One `.ivf` file is written: a block's part of the training sample, or its shard index."""

    number: int
    digest: str
    rows: int
    lists: FileReference
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class TrainedIndex:
    """A trained index without vectors, named by its fingerprint: sha256 over its files.

    `nprobe` is the default number of lists that a search probes. `assignment` holds what two-level assignment needs
    beside the index; indexes of few lists are assigned flat and have none.
    """

    fingerprint: str
    key: str
    metric: Metric
    dim: int
    nlist: int
    code_size: int
    nprobe: int
    index: FileReference
    training: FileReference
    assignment: FileReference | None = None


@dataclass(frozen=True)
class KeysMarker:
    """One hash bucket of the key tables is written: `entries` items, of which `rejected` have no row."""

    number: int
    digest: str
    entries: int
    rejected: int
    images: int
    texts: int
    keywords: int
    file: FileReference
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class RejectsFile:
    """What is left of the rejects of a shard of an earlier run; no file when nothing is."""

    shard: int
    rejected: int
    file: FileReference | None


@dataclass(frozen=True)
class TombstonesMarker:
    """The tombstones of a folder of shards are written: `rows` bits are set in them.

    `rejects` are the files that changed because an item that had been rejected is gone, or comes anew.
    """

    number: int
    digest: str
    rows: int
    file: FileReference
    rejects: tuple[RejectsFile, ...] = ()
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Drift:
    """How far the vectors have moved from those that the index was trained on.

    Attributes:
        new_rows: share of the rows that this run adds, 0 to 1.
        residual: mean squared error of the added rows after coding over their mean squared norm, as a multiple of what
            training saw of held-out rows; None: nothing was added, or no row was held out.
        residual_error: its standard error, which is large where few rows were added or held out.
        imbalance: faiss's imbalance factor of all lists, as a multiple of training's.
        recall: recall@10 of the canary queries now, 0 to 1; None: the index has none.
        recall_trained: the same when the index was trained.
    """

    new_rows: float
    residual: float | None
    imbalance: float
    recall: float | None
    recall_trained: float | None
    residual_error: float = 0.0


@dataclass(frozen=True)
class DriftMarker:
    """A reindex has decided whether to train anew.

    Attributes:
        why: the criterion that was passed, or what was asked for; empty: the trained index stays.
        drift: what was measured; None where training was asked for in any case.
        cut: table of the blocks that are to be added; None: those of the plan.
        blocks: how many these are.
        canaries: with what this run adds.
    """

    digest: str
    why: str
    drift: Drift | None
    blocks: int
    cut: FileReference | None = None
    canaries: FileReference | None = None
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class TrainMarker:
    """The index of a run is trained, or taken over; `canaries` are queries that watch it."""

    digest: str
    trained: TrainedIndex
    canaries: FileReference | None = None
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class PieceMarker:
    """Lists `first_list` to `last_list` (exclusive) stand at `offset` of the merged index, `bytes` long."""

    number: int
    digest: str
    first_list: int
    last_list: int
    offset: int
    bytes: int
    checksum: str
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class SegmentMarker:
    """Lists `first_list` to `last_list` (exclusive) of the merged index are one `.ivf` file, on an object store."""

    number: int
    digest: str
    first_list: int
    last_list: int
    rows: int
    lists: FileReference
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class StageMarker:
    """Every task of a stage is done; `finished` is in seconds since the epoch."""

    stage: str
    tasks: int
    finished: float
    format_version: int = FORMAT_VERSION


# --- what is published ----------------------------------------------------------------------------------------------


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
        checksum: of all the rest (see `manifest`).
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


# --- JSON -----------------------------------------------------------------------------------------------------------


class _Versioned(msgspec.Struct):
    format_version: int = FORMAT_VERSION


def encode(record: object) -> bytes:
    """Returns a record as JSON with sorted keys: equal records give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=1) + b"\n"


def decode(data: bytes, kind: type[T], name: str) -> T:
    """Reads a record back.

    Args:
        data: what `encode` returned.
        kind: class of the record.
        name: where the bytes came from, for the message.

    Raises:
        PixdexError: the bytes are not such a record, or a newer version of it.
    """
    try:
        version = msgspec.json.decode(data, type=_Versioned).format_version
        if version > FORMAT_VERSION:
            raise PixdexError(
                f"{name} has format version {version}, this pixdex reads up to {FORMAT_VERSION}: upgrade pixdex"
            )
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PixdexError(
            f"{name} is not a readable {kind.__name__} ({error}): restore it, or use another root"
        ) from error


def digest(*parts: object) -> str:
    """Returns the sha256, in hexadecimal, of records and plain values; equal parts give equal digests.

    >>> digest(1, "a") == digest(1, "a") != digest(1, "b")
    True
    """
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
