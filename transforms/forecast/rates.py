"""How fast a machine does what a build is made of: measured by `transforms.forecast.measure`, or of a named machine."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Literal

from transforms.record_json import decode, encode
from transforms.records import FORMAT_VERSION
from transforms.storage import atomic
from transforms.storage.cache_folder import cache_folder
from transforms.storage.scratch import temporary_folder

RateName = Literal[
    "check_bytes",
    "scan_bytes",
    "read_bytes",
    "parquet_bytes",
    "matrix_flops",
    "kmeans_flops",
    "flat_flops",
    "grouped_flops",
    "codebook_flops",
    "encode_flops",
    "link_flops",
    "list_bytes",
    "take_bytes",
    "merge_bytes",
    "write_bytes",
    "disk_bytes",
    "shuffle_bytes",
]

A_CORE: Final[frozenset[RateName]] = frozenset(
    {
        "scan_bytes",
        "read_bytes",
        "matrix_flops",
        "kmeans_flops",
        "flat_flops",
        "grouped_flops",
        "codebook_flops",
        "encode_flops",
    }
)
"""Rates that are of one core, and that all threads of a task multiply; the others are of a task."""

ASSUMED: Final[frozenset[RateName]] = frozenset({"shuffle_bytes"})
"""Rates that nothing measures, here or anywhere: a minute of shuffling would say what the runner is known for."""


COUNTING: Final = 4
"""Which formulas count the operations of `forecast.work`: rates of other formulas are no rates of these."""


@dataclass(frozen=True)
class Rates:
    """What a second is good for. Bytes are those stored, operations those of the textbook (2 for a multiply-add).

    Attributes:
        machine: where they were measured, for people.
        measured: the day, `YYYY-MM-DD`.
        check_bytes: ready embeddings, read and looked through for vectors that cannot be indexed.
        scan_bytes: ready embeddings, read to take few of them; each thread has a file of its own.
        read_bytes: ready embeddings, made float32 of length 1.
        matrix_flops: products of a batch with the matrix of a transform, or with parents.
        kmeans_flops: distances of k-means, as the cells have it; moving the centroids is in it.
        flat_flops: distances to all lists.
        grouped_flops: distances to the lists of a few cells and to the parents; each counts 80 components more.
        codebook_flops: distances of k-means in subspaces of a few components.
        encode_flops: distances to the codebooks of a product quantizer.
        link_flops: distances while an HNSW graph is made, on one thread.
        list_bytes: entries brought into lists, and written.
        take_bytes: vectors taken out of lists of the sample.
        merge_bytes: merged index, with reading, writing and flushing.
        write_bytes: a file, flushed to the disk.
        disk_bytes: a file, read from the disk: what is read does not fit the memory that is left for it.
        shuffle_bytes: through a GroupByKey; assumed, not measured.
        stage_seconds: what a stage of a graph of Beam takes beside its work.
        marker_seconds: what a task takes beside its work: its marker, and small files.
        file_seconds: a small file opened and read: a marker, or a part of a list file.
        graph_seconds: from a graph of Beam to its first task.
        start_seconds: of a command before its first stage and behind its last one, the report included.
        step_seconds: what a stage takes beside its work where one process does all of them.
        counting: the `COUNTING` that they were measured with.
        parquet_bytes: embeddings in a shard of ours, read and decoded, all of it for any row.
    """

    machine: str
    measured: str
    check_bytes: float
    scan_bytes: float
    read_bytes: float
    matrix_flops: float
    kmeans_flops: float
    flat_flops: float
    grouped_flops: float
    codebook_flops: float
    encode_flops: float
    link_flops: float
    list_bytes: float
    take_bytes: float
    merge_bytes: float
    write_bytes: float
    shuffle_bytes: float
    stage_seconds: float
    marker_seconds: float
    file_seconds: float
    graph_seconds: float
    start_seconds: float
    parquet_bytes: float = 0.2e9
    step_seconds: float = 0.04
    disk_bytes: float = 0.4e9
    counting: int = 1
    format_version: int = FORMAT_VERSION

    def of(self, name: RateName, threads: int) -> float:
        """Returns a rate of a task that has so many threads."""
        rate: float = getattr(self, name)
        return rate * threads if name in A_CORE else rate

    def values(self) -> dict[str, float]:
        """Returns all that was measured, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.type is float}


DEFAULT: Final = Rates(
    machine="2 cores of an AMD EPYC virtual machine with a network disk",
    measured="2026-12-01",
    check_bytes=8e9,
    scan_bytes=4e9,
    read_bytes=0.9e9,
    matrix_flops=80e9,
    kmeans_flops=30e9,
    flat_flops=100e9,
    grouped_flops=55e9,
    codebook_flops=22e9,
    encode_flops=80e9,
    link_flops=33e9,
    list_bytes=0.33e9,
    take_bytes=0.15e9,
    merge_bytes=0.8e9,
    write_bytes=0.4e9,
    shuffle_bytes=60e6,
    stage_seconds=0.05,
    marker_seconds=0.002,
    file_seconds=0.0001,
    graph_seconds=2.3,
    start_seconds=1.2,
    counting=COUNTING,
)
"""Of one machine of today, between what calibrations of a good and of a bad hour gave; `kmeans_flops` and `take_bytes`,
which measure half and a quarter as long there, are what first builds took, whose memory is new. Another machine is a
small factor away, `pixdex plan --calibrate` measures it."""


def file() -> Path:
    """Returns where the measured rates of this machine are kept: below the user's cache folder."""
    return cache_folder() / "rates.json"


def save(rates: Rates) -> Path:
    """Keeps measured rates for later plans; returns the file."""
    kept = file()
    with temporary_folder(kept.parent) as folder:
        (folder / kept.name).write_bytes(encode(rates))
        atomic.replace(folder / kept.name, kept)
    return kept


def load() -> Rates | None:
    """Returns the measured rates of this machine, None when it was never calibrated as rates are counted today.

    Raises:
        PixdexError: the file is damaged, or of a newer version.
    """
    kept = file()
    found = decode(kept.read_bytes(), Rates, str(kept)) if kept.exists() else None
    return found if found is not None and found.counting == COUNTING else None
