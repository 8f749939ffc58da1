"""The data model: what is asked for, what it is cut into, and where its files are, as frozen records.

Words are those of `transforms/README.md`: an *item* has a *key* and becomes one or more *rows*; rows fill *shards*;
shards are grouped into *blocks*; a *generation* names everything that a search needs. Records travel between workers
and lie on storage as JSON (`record_json`); none of them holds a vector or a picture. What says that a part is done is
in `markers`, what names a whole generation in `generations/manifest`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transforms.derivation import Derivation, RootPart
from transforms.errors import check_path
from transforms.ready_range import VectorRange

FORMAT_VERSION = 2
"""Version of every record on storage but those below. Since 2 a generation has key tables."""

STORED_VERSION = 3
"""Version of what a pixdex of before must not read: a request that stores vectors, what comes of it, hidden items."""

DERIVED_VERSION = 4
"""The same of a root that is made of another one, and of tuned searches."""

TABLES_VERSION = NEWEST_VERSION = 5
"""The same of a request of JSON Lines, parquet, tars or lists of URLs, of ready embeddings with more than vectors and
parquet beside them, or one that keeps rows whose pictures are missing. A reader refuses a higher one."""

ROW_BITS = 16
ROWS_PER_SHARD = 1 << ROW_BITS
"""A shard holds at most this many rows, so that `id = shard << 16 | row` is arithmetic and not a join."""

Modality = Literal["image", "text", "keyword"]
MODALITIES: tuple[Modality, ...] = ("image", "text", "keyword")
"""In the order in which a shard stores them: the rows of one modality are consecutive."""

Refine = Literal["f16", "sq8", "none"]

Metric = Literal["ip", "l2", "l1"]
"""Inner product (higher is nearer), squared Euclidean distance, and sum of absolute differences (lower is nearer)."""


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
    """One place that items come from: pictures, files of rows, ready embeddings, or another root.

    Attributes:
        kind: whose files are items (`images`) or whose rows are: `csv`, `jsonl`, `parquet`, `tars` (of members), `urls`
            (any of these but the last, or lines); `vectors` (rows that are embedded already) or `root` (whose rows are
            made into others).
        pattern: absolute URL of a file, a folder, a glob or a root.
        image_column, text_column, keyword_column: columns that are embedded; at least one is set where rows are items.
        key_column: of the primary key; without one a row is named by the hash of its content.
        keyword_separator: what the cells of `keyword_column` are split on.
        key_pattern: regular expression (RE2) whose named groups, matched against the stem of a picture, become columns.
        vector_column: column of a parquet file that holds the vectors.
        metadata: absolute URL of a file or glob: parquet files, or CSV, with a row for each vector of the `.npy` files.
        modality, derivation, image_bytes: what vectors are of; what is made of a root; are pictures in the files?
        missing_image: what becomes of a row whose picture cannot be fetched: a reject, or what its texts make of it.
        text_vectors: as `pattern`, of the `.npy` files with the vectors of the texts of the same items.
        uri_column, image_base, image_was: which column beside ready embeddings names pictures, and where these are
            (`VectorRange`).
    """

    kind: Literal["images", "csv", "jsonl", "parquet", "tars", "urls", "vectors", "root"]
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
    derivation: Derivation | None = None
    image_bytes: bool = False
    missing_image: Literal["reject", "text"] = "reject"
    text_vectors: str | None = None
    uri_column: str | None = None
    image_base: str | None = None
    image_was: str | None = None

    @property
    def lists_rows(self) -> bool:
        """Whether rows of files are its items."""
        return self.kind in ("csv", "jsonl", "parquet", "tars", "urls")

    @property
    def is_skippable(self) -> bool:
        """Whether its rows name no pictures outside of its files: the items of a file are as they were while it is."""
        return self.lists_rows and not self.names_pictures

    @property
    def names_pictures(self) -> bool:
        """Whether its rows name pictures, of which several rows may name the same one."""
        return self.lists_rows and self.image_column is not None and not self.image_bytes


NO_ENCODER = "none"
"""The encoder of a root whose embeddings were made elsewhere, where nobody said by which."""


@dataclass(frozen=True)
class EncoderSettings:
    """The encoder of a root and how it is run; its spec is `none` where embeddings were ready and none was named.

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

    `max_memory` (bytes of the whole index) and `code_size` (bytes a vector, without its id) guide `auto`. `refine` says
    how the vectors are stored with which a search ranks its shortlist exactly; before there was it, none were.
    """

    key: str = "auto"
    metric: Metric = "ip"
    max_memory: int = 16 << 30
    code_size: int | None = None
    refine: Refine = "none"


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

    @property
    def is_ready(self) -> bool:
        """Whether it is of ready embeddings, made elsewhere: then of nothing else, and nothing is encoded."""
        return any(source.kind == "vectors" for source in self.sources)

    @property
    def has_encoder(self) -> bool:
        """Whether it is known which encoder its vectors come of: it makes those of queries, too."""
        return self.encoder.spec != NO_ENCODER

    @property
    def derivation(self) -> Derivation | None:
        """What is made of another root, if anything; then it has this one source."""
        return self.sources[0].derivation if self.sources else None


# --- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileReference:
    """One file of a root: its path relative to the root, its size, and a checksum `scheme:hex`.

    Raises:
        UnsafePathError: the path leads out of the root, or is absolute, or is none.
    """

    path: str
    bytes: int
    checksum: str

    def __post_init__(self) -> None:
        """Looks at the path, wherever a reference comes from."""
        check_path(self.path)


def files_in(record: object) -> Iterator[FileReference]:
    """Yields the files that a record, or a record in it, speaks of."""
    if isinstance(record, FileReference):
        yield record
    elif isinstance(record, tuple):
        for part in record:
            yield from files_in(part)
    elif is_dataclass(record):
        for field in fields(record):
            yield from files_in(getattr(record, field.name))


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
        root_parts: what of another root it is made of; then it has no slices, either.
    """

    shard: int
    block: int
    slices: tuple[ItemSlice, ...]
    items: int
    rows: int
    ready: VectorRange | None = None
    root_parts: tuple[RootPart, ...] = ()


@dataclass(frozen=True)
class Block:
    """A run of shards, in the order of their numbers, of which some may be missing: what one call adds."""

    number: int
    first_shard: int
    stop_shard: int

    @property
    def shards(self) -> range:
        """The numbers that its shards can have."""
        return range(self.first_shard, self.stop_shard)


@dataclass(frozen=True)
class Changes:
    """What a reindex found, in items; those of a container that was not opened are unchanged.

    `rejected` were rejected before and did not change since; `retried` did not change and are embedded again: rejects,
    and what damaged shards held; of `carried` changed ones only metadata changed, and nothing is embedded.
    """

    new: int
    changed: int
    gone: int
    unchanged: int
    rejected: int
    retried: int
    carried: int = 0


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
