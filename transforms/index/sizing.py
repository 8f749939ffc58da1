"""How much memory a worker needs, stage by stage: arithmetic over the number of vectors and the index, before any work.

Every figure is a sum of terms that say what they are made of, so that a refusal can be checked by hand.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from transforms import planning
from transforms.errors import UsageError
from transforms.index import sampling
from transforms.index.cells import GROUP_ROWS
from transforms.index.clustering import parents_of
from transforms.index.index_key import IndexKey, code_size, reduced_dim
from transforms.index.list_format import ID_BYTES
from transforms.index.range_merge import STEP_BYTES
from transforms.records import Metric
from transforms.vector_rows import BATCH_ROWS

PROCESS_BYTES: Final = 400 << 20
"""A worker before it holds anything: Python with Beam, numpy, pyarrow and faiss."""

LONGEST_LIST: Final = 4
"""A longest list has so many times the mean, in vectors that cluster; `Flat` has one list, and that is all of it."""

_MEAN_COPIES = 4
"""Moving the centroids holds the old ones, the sums, the means and the new ones."""

_SORTING_BYTES = 32
"""Of numpy, an entry, while the codes of a block are brought into the order of the lists."""

_ROWS_AT_ONCE = 8 * BATCH_ROWS
"""Added at once, at most."""

_SORTED_AT_ONCE = 128 << 20
_MERGE_SEGMENT_BYTES = 100
"""Of numpy, for each list of each input of a piece."""

_GRAPH = re.compile(r"_HNSW(\d+)")


@dataclass(frozen=True)
class Term:
    """Part of a sum: what it is, how many bytes, and the arithmetic that makes them (none for a fixed part)."""

    what: str
    bytes: int
    arithmetic: str = ""

    def __str__(self) -> str:
        """Writes it as a person would on paper."""
        made = f"{self.arithmetic} = " if self.arithmetic else ""
        return f"{self.what} {made}{gibibytes(self.bytes)}"


@dataclass(frozen=True)
class TaskMemory:
    """What the hungriest kind of task of a stage holds at once."""

    stage: Literal["train", "add", "merge"]
    task: str
    terms: tuple[Term, ...]

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(term.bytes for term in self.terms)

    def __str__(self) -> str:
        """Writes the sum, the largest term first."""
        ordered = sorted(self.terms, key=lambda term: -term.bytes)
        return " + ".join(map(str, ordered))


def check_worker_memory(key: IndexKey, metric: Metric, rows: int, dim: int, worker_memory: int | None) -> None:
    """Refuses an index that no worker could train, add to or merge, before any work is done.

    Args:
        key: the index that was chosen.
        metric: its metric.
        rows: vectors that are planned.
        dim: their components.
        worker_memory: bytes that a worker has; None: those of this machine.

    Raises:
        UsageError: with the stage that needs the most, and the arithmetic.
    """
    has = machine_memory() if worker_memory is None else worker_memory
    needed = max(worker_tasks(key, rows, dim), key=lambda task: task.bytes)
    if needed.bytes > has:
        whose = "this machine has" if worker_memory is None else "--worker-memory is"
        raise UsageError(
            f"{needed.stage} with {key} ({metric}) needs {gibibytes(needed.bytes)} a worker ({needed.task}): {needed}; "
            f"{whose} {gibibytes(has)}: {_way_out(key, needed)}"
        )


def worker_tasks(key: IndexKey, rows: int, dim: int) -> tuple[TaskMemory, ...]:
    """Returns what every kind of task holds; the largest of a stage is what its workers must have."""
    base = Term("the process", PROCESS_BYTES)
    kinds = [*_training(key, rows, dim), _adding(key, rows, dim), _merging(key, rows, dim)]
    return tuple(TaskMemory(task.stage, task.task, (*task.terms, base)) for task in kinds)


def stage_memory(key: IndexKey, rows: int, dim: int) -> dict[str, TaskMemory]:
    """Returns the hungriest task of each stage."""
    peak: dict[str, TaskMemory] = {}
    for task in worker_tasks(key, rows, dim):
        peak[task.stage] = max(peak.get(task.stage, task), task, key=lambda one: one.bytes)
    return peak


def machine_memory() -> int:
    """Returns the bytes of memory that this process may use: the machine's, or less in a container with a limit."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    try:
        text = limit.read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(text)) if text.isdecimal() else whole


def gibibytes(size: int) -> str:
    """Writes bytes for people.

    >>> gibibytes(3 << 29), gibibytes(5 << 20), gibibytes(100)
    ('1.5 GiB', '5.0 MiB', '100 bytes')
    """
    for power, unit in ((50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):,.1f} {unit}"
    return f"{size} bytes"


def _training(key: IndexKey, rows: int, dim: int) -> list[TaskMemory]:
    inner, shares = reduced_dim(key, dim), sampling.sample_shares(key, rows)
    pilot, trained = round(shares.pilot * rows), round(shares.trained * rows)
    cell = round(LONGEST_LIST * trained / parents_of(key.nlist))
    group = min(GROUP_ROWS + cell, trained)
    first = Term(
        "the pilot sample", 4 * pilot * (dim + inner), f"{pilot:,} vectors x ({dim} + {inner}) dimensions x 4 bytes"
    )
    cells = Term("a group of cells", 8 * group * inner, f"2 copies of {group:,} vectors x {inner} dimensions x 4 bytes")
    centroids = _centroids(key, inner)
    moving = Term("centroids", _MEAN_COPIES * centroids.bytes, f"{_MEAN_COPIES} copies of {centroids.arithmetic}")
    return [
        TaskMemory("train", "finding the parents", (first,)),
        TaskMemory("train", "clustering cells", (cells, centroids)),
        TaskMemory("train", "moving the centroids and writing the index", (moving, *_graph(key))),
    ]


def _adding(key: IndexKey, rows: int, dim: int) -> TaskMemory:
    inner, entry = reduced_dim(key, dim), code_size(key, dim) + ID_BYTES
    block = min(planning.block_rows(rows, key.nlist, entry), rows)
    batches = Term(
        "batches",
        4 * _ROWS_AT_ONCE * (dim + 3 * inner),
        f"{_ROWS_AT_ONCE:,} vectors x ({dim} + 3 x {inner}) dimensions x 4 bytes",
    )
    sorting = Term("sorting", min(_SORTED_AT_ONCE, 2 * block * entry))
    codes = Term("a block", block * (entry + _SORTING_BYTES), f"{block:,} vectors x ({entry} + {_SORTING_BYTES}) bytes")
    held = (_centroids(key, inner), *_graph(key))
    return TaskMemory("add", "adding a block", (*held, codes, sorting, batches))


def _merging(key: IndexKey, rows: int, dim: int) -> TaskMemory:
    entry = code_size(key, dim) + ID_BYTES
    inputs = -(-rows // max(1, planning.block_rows(rows, key.nlist, entry)))
    longest = rows if key.nlist == 1 else min(rows, LONGEST_LIST * -(-rows // key.nlist))
    if longest * entry > STEP_BYTES:
        size = min(2 * longest, rows) * entry
        piece = Term("the longest lists", size, f"{size // entry:,} vectors x {entry} bytes")
    else:
        piece = Term("two steps", min(2 * STEP_BYTES, rows * entry))
    lists = min(key.nlist, -(-piece.bytes * key.nlist // max(1, rows * entry)))
    segments = min(lists * inputs, -(-piece.bytes // entry))
    sizes = Term(
        "list sizes",
        8 * key.nlist + _MERGE_SEGMENT_BYTES * segments,
        f"{key.nlist:,} lists x 8 + {segments:,} parts of lists x {_MERGE_SEGMENT_BYTES} bytes",
    )
    return TaskMemory("merge", "merging a piece", (piece, sizes))


def _centroids(key: IndexKey, inner: int) -> Term:
    return Term("centroids", 4 * key.nlist * inner, f"{key.nlist:,} lists x {inner} dimensions x 4 bytes")


def _graph(key: IndexKey) -> tuple[Term, ...]:
    match = _GRAPH.match(key.coarse)
    if not match:
        return ()
    links = 2 * int(match[1])
    return (Term("HNSW graph", 4 * key.nlist * (links + 4), f"{key.nlist:,} lists x ({links} + 4) links x 4 bytes"),)


def _way_out(key: IndexKey, needed: TaskMemory) -> str:
    largest = max(needed.terms, key=lambda term: term.bytes).what
    if largest == "the longest lists":
        return "an --index-key with lists (IVF), more of them, or smaller codes; or larger workers"
    if largest == "centroids":
        return "fewer lists, fewer dimensions (OPQm_d), or larger workers"
    return "larger workers" if key.nlist == 1 else "fewer lists, smaller codes, or larger workers"
