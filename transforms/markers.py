"""Markers: small files under fixed names that say "this part of the run is done", and what came of it.

A worker that finds the marker of its task has nothing to do; `digest` tells whether the marker is of that very task.
"""

from dataclasses import dataclass

from transforms.ready_range import VectorRange
from transforms.records import FORMAT_VERSION, FileReference, Metric


@dataclass(frozen=True)
class TimeSpent:
    """What embedding a shard took, by parts and in seconds (see `tasks.embed.spent`), and since when on which machine.

    `began` is in seconds since the epoch, `cores` are those of the whole machine, `device` is that of the encoder,
    `connections` counts pictures that are fetched at once.
    """

    seconds: dict[str, float]
    began: float
    host: str
    cores: int
    device: str
    connections: int


@dataclass(frozen=True)
class ShardMarker:
    """A shard is embedded: its file (none when every item was rejected), its rejects, and its counts.

    A shard of ready embeddings has no file of its own: `ready` says where its vectors are. Its ids count the rows of
    that range, rejected ones too, which are in no list; `rows` does not count them.

    `carried` rows have the vectors that their items had in the generation before. `spent` is known of what an
    encoder made. Items `without_picture` have only their texts, since it could not be fetched.
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
    carried: int = 0
    spent: TimeSpent | None = None
    without_picture: int = 0

    @property
    def is_carried(self) -> bool:
        """Whether nothing of it was embedded."""
        return 0 < self.rows == self.carried

    @property
    def numbered_rows(self) -> int:
        """How many rows have an id; of ready embeddings, rejected ones have, too."""
        return self.rows if self.ready is None else self.ready.rows


@dataclass(frozen=True)
class ListsMarker:
    """One `.ivf` file is written: a block's part of the training sample, or its shard index.

    `vectors` has the rows of a shard index as they are; None: they are not stored, or lie elsewhere.
    """

    number: int
    digest: str
    rows: int
    lists: FileReference
    format_version: int = FORMAT_VERSION
    vectors: FileReference | None = None


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
