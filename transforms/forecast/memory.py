"""How much memory a worker needs, stage by stage: arithmetic over the number of vectors and the index, before any work.

Every figure is a sum of terms that say what they are made of, so that a refusal can be checked by hand.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from transforms.errors import UsageError
from transforms.forecast.workload import THREADS_A_TASK, Workload
from transforms.index.assignment import RANKED_ROWS
from transforms.index.batches import READ_AHEAD, batches_a_thread, batches_in_flight
from transforms.index.choose import graph_bytes
from transforms.index.lists.format import ID_BYTES
from transforms.index.lists.merge import STEP_BYTES
from transforms.index.lists.writer import SORTED_AT_ONCE
from transforms.index.training.figures import CANARY_QUERIES, GROUP_ROWS
from transforms.shards.byte_vectors import COMPONENTS_TOGETHER, ROWS_AT_ONCE
from transforms.shards.vectors import BATCH_ROWS

PROCESS_BYTES: Final = 400 << 20
"""A worker before it holds anything: Python with Beam, numpy, pyarrow and faiss."""

LONGEST_LIST: Final = 4
"""A longest list has so many times the mean, in vectors that cluster; `Flat` has one list, and that is all of it."""

_READ_COPIES = 2
"""What is read from storage is there as bytes, and as what is made of them."""

_LIST_COPIES = 3
"""A list file read: its parts, all of them together, and in their order."""

_LOOK_COPIES = 2
"""The centroids before a pass: those of the groups and all of them together, or as bytes and as an array."""

_MOVE_COPIES = 5
"""Moving the centroids holds the old ones, the sums, the means, the new ones, and parts of these."""

_INDEX_COPIES = 5
"""Centroids as they were moved, cell by cell, in the index, and twice where the audit looks at all of them."""

_DISTANCE_COPIES = 3
"""Distances of canary queries, a thread: products, distances, and those that are sorted."""

_WORKING_COPIES = 4
"""Of a thread's vectors behind the transforms: batch by batch, together, brought to cells, and their products."""

_SORTING_BYTES = 32
"""Of numpy, an entry, while entries are brought into the order of the lists."""

_PRODUCT_COPIES = 6
"""Products of components: in steps, in the order of rounding, their root, what evens errors out, and parts of these."""

_ROUNDED_COPIES = 4
"""Rows that are rounded at once: their values, what is below them, the rests and the errors."""

_RANKING_BYTES = 12
"""A score and a number, for each vector and each parent that it is ranked against."""

_MERGE_SEGMENT_BYTES = 100
"""Of numpy, for each list of each input of a piece."""


@dataclass(frozen=True)
class Term:
    """Part of a sum: what it is, how many bytes, and the arithmetic that makes them (none for a fixed part).

    `shared` tells that all tasks of a worker hold it once.
    """

    what: str
    bytes: int
    arithmetic: str = ""
    shared: bool = False

    def __str__(self) -> str:
        """Writes it as a person would on paper."""
        arithmetic = f"{self.arithmetic} = " if self.arithmetic else ""
        return f"{self.what} {arithmetic}{gibibytes(self.bytes)}"

    def times(self, count: int) -> "Term":
        """Returns what so many tasks of one worker hold."""
        if self.shared or count == 1:
            return self
        arithmetic = f"{count} tasks x {self.arithmetic or gibibytes(self.bytes)}"
        return Term(self.what, count * self.bytes, arithmetic)


@dataclass(frozen=True)
class TaskMemory:
    """What a kind of task holds at once; `tasks` is how many there are of it."""

    stage: Literal["sample", "train", "add", "merge"]
    task: str
    tasks: int
    terms: tuple[Term, ...]

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(term.bytes for term in self.terms)

    def at_a_time(self, count: int) -> "TaskMemory":
        """Returns what a worker holds that works on `count` of them at a time, where there are as many."""
        terms = tuple(term.times(min(count, self.tasks)) for term in self.terms)
        return TaskMemory(self.stage, self.task, self.tasks, terms)

    def __str__(self) -> str:
        """Writes the sum, the largest term first."""
        ordered = sorted(self.terms, key=lambda term: -term.bytes)
        return " + ".join(map(str, ordered))


def check_worker_memory(load: Workload, worker_memory: int | None, at_a_time: int = 1) -> None:
    """Refuses an index that no worker could train, add to or merge, before any work is done.

    Args:
        load: what is to be built.
        worker_memory: bytes that a worker has; None: those of this machine.
        at_a_time: tasks that it works on at a time.

    Raises:
        UsageError: with the stage that needs the most, and the arithmetic.
    """
    has = machine_memory() if worker_memory is None else worker_memory
    needed = max(worker_tasks(load, at_a_time), key=lambda task: task.bytes)
    if needed.bytes > has:
        whose = "this machine has" if worker_memory is None else "--worker-memory is"
        raise UsageError(
            f"{needed.stage} with {load.key} ({load.metric}) needs {gibibytes(needed.bytes)} a worker "
            f"({needed.task}): {needed}; {whose} {gibibytes(has)}: {_way_out(load, needed)}"
        )


def worker_tasks(load: Workload, at_a_time: int = 1) -> tuple[TaskMemory, ...]:
    """Returns what a worker holds for every kind of task; the largest of a stage is what it must have."""
    base = Term("the process", PROCESS_BYTES, shared=True)
    kinds = [*_sampling(load), *_training(load), _adding(load), _merging(load)]
    return tuple(
        TaskMemory(kind.stage, kind.task, kind.tasks, (*kind.terms, base)).at_a_time(at_a_time) for kind in kinds
    )


def stage_memory(load: Workload, at_a_time: int = 1) -> dict[str, TaskMemory]:
    """Returns the hungriest kind of task of each stage."""
    peak: dict[str, TaskMemory] = {}
    for task in worker_tasks(load, at_a_time):
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


def _sampling(load: Workload) -> Iterator[TaskMemory]:
    """Sampling a block, and routing its sample, which is trained on but for the rows that are held out."""
    block, component = min(load.block_rows, load.rows), load.sample_component
    rows = min(load.sampled, -(-block * load.sampled // load.rows))
    sampled, behind = component * load.dim + ID_BYTES, component * load.inner
    in_hand = min(THREADS_A_TASK * BATCH_ROWS, block + BATCH_ROWS)
    batches = Term(
        "batches", 4 * READ_AHEAD * in_hand * load.dim, f"{READ_AHEAD} x {in_hand:,} x {load.dim} dimensions x 4 bytes"
    )
    yield TaskMemory("sample", "sampling a block", load.blocks, (*_entries("sampled vectors", rows, sampled), batches))
    # As they were sampled, and behind the transforms twice for a moment.
    routed = _entries("the sample of a block", rows, sampled + 2 * behind)
    yield TaskMemory("train", "routing the sample of a block", load.blocks, (*routed, batches))


def _training(load: Workload) -> Iterator[TaskMemory]:
    inner, component, lists = load.inner, load.sample_component, load.key.nlist
    # Vectors that are read take their codes in every copy, and as float32; that is more than what is made of them.
    a_pilot = (_LIST_COPIES * component + 4) * load.dim + 4 * inner
    pilot = Term("the pilot sample", load.pilot * a_pilot, f"{load.pilot:,} vectors x {a_pilot:,} bytes")
    cell = round(LONGEST_LIST * load.trained / load.cells)
    group = min(GROUP_ROWS + cell, load.trained)
    a_row = (_LIST_COPIES * component + 4) * inner + _SORTING_BYTES
    rows = Term("a group of cells", group * a_row, f"{group:,} vectors x {a_row:,} bytes")
    summed = min(group, lists)
    sums = Term("sums", 2 * 4 * summed * inner, f"2 copies of {summed:,} lists x {inner} dimensions x 4 bytes")
    coded = load.coded
    kept = Term(
        "the pilot",
        4 * (load.pilot * load.dim + coded * inner),
        f"({load.pilot:,} vectors x {load.dim} + {coded:,} x {inner}) x 4 bytes",
    )
    index = (_centroids(load, _INDEX_COPIES), *_graph(load, _READ_COPIES), kept, *_watching(load))
    yield TaskMemory("train", "finding the parents", 1, (pilot,))
    yield TaskMemory("train", "clustering cells", load.groups, (rows,))
    yield TaskMemory(
        "train",
        "looking for the nearest lists",
        load.groups,
        (_centroids(load, _LOOK_COPIES, shared=True), rows, sums, *_ranking(load)),
    )
    yield TaskMemory("train", "moving the centroids", 1, (_centroids(load, _MOVE_COPIES), sums))
    yield TaskMemory("train", "writing the index", 1, index)


def _watching(load: Workload) -> tuple[Term, Term]:
    """Choosing canary queries: what they are answered with, and their distances to a batch of it in every thread."""
    watched = Term(
        "watched vectors", 4 * load.watched * load.dim, f"{load.watched:,} vectors x {load.dim} dimensions x 4 bytes"
    )
    copies, rows = _DISTANCE_COPIES * THREADS_A_TASK, min(BATCH_ROWS, load.watched)
    size = 4 * copies * CANARY_QUERIES * rows
    return watched, Term(
        "canaries", size, f"{copies} copies of {CANARY_QUERIES:,} queries x {rows:,} vectors x 4 bytes"
    )


def _adding(load: Workload) -> TaskMemory:
    inner, block = load.inner, min(load.block_rows, load.rows)
    rows = batches_a_thread(load.dim, THREADS_A_TASK) * BATCH_ROWS
    waiting = min(rows * batches_in_flight(THREADS_A_TASK) + READ_AHEAD * BATCH_ROWS, block + BATCH_ROWS)
    working = min(rows * THREADS_A_TASK, block + BATCH_ROWS)
    batches = Term(
        "batches",
        4 * (waiting * load.dim + _WORKING_COPIES * working * inner),
        f"({waiting:,} x {load.dim} + {_WORKING_COPIES} x {working:,} x {inner}) x 4 bytes",
    )
    copies = _READ_COPIES if load.object_store else 1  # a folder's index is mapped
    held = (_centroids(load, copies, shared=True), *_graph(load, copies, shared=True))
    codes = _entries("a block", block, load.entry)
    return TaskMemory(
        "add", "adding a block", load.blocks, (*held, *codes, batches, *_assigning(load), *_rounding(load))
    )


def _merging(load: Workload) -> TaskMemory:
    rows, entry, nlist = load.rows, load.entry, load.key.nlist
    longest = rows if nlist == 1 else min(rows, LONGEST_LIST * -(-rows // nlist))
    if longest * entry > STEP_BYTES:
        size = min(2 * longest, rows) * entry
        piece = Term("the longest lists", size, f"{size // entry:,} vectors x {entry} bytes")
    else:
        piece = Term("two steps", min(2 * STEP_BYTES, rows * entry))
    lists = min(nlist, -(-piece.bytes * nlist // max(1, rows * entry)))
    inputs = min(load.blocks, max(load.fan_in, load.merge_inputs))
    segments = min(lists * inputs, -(-piece.bytes // entry))
    sizes = Term(
        "list sizes",
        8 * nlist + _MERGE_SEGMENT_BYTES * segments,
        f"{nlist:,} lists x 8 + {segments:,} parts of lists x {_MERGE_SEGMENT_BYTES} bytes",
    )
    return TaskMemory("merge", "merging a piece", load.pieces, (piece, sizes))


def _entries(what: str, rows: int, entry: int) -> tuple[Term, Term]:
    """Entries of lists, and what sorting them takes."""
    held = Term(what, rows * (entry + _SORTING_BYTES), f"{rows:,} vectors x ({entry:,} + {_SORTING_BYTES}) bytes")
    return held, Term("sorting", 2 * min(SORTED_AT_ONCE, rows * entry))


def _ranking(load: Workload) -> tuple[Term, ...]:
    """What two-level assignment holds of the parents, in every thread."""
    if load.assigned_flat:
        return ()
    threads, product = THREADS_A_TASK, f"{RANKED_ROWS:,} vectors x {load.cells:,} parents x {_RANKING_BYTES} bytes"
    size = threads * RANKED_ROWS * load.cells * _RANKING_BYTES
    return (Term("nearest parents", size, f"{threads} threads x {product}"),)


def _assigning(load: Workload) -> tuple[Term, ...]:
    """What assignment holds beside the centroids: parents that are ranked, or a sketch of half as many components."""
    if not load.assigned_flat:
        return _ranking(load)
    product = f"{load.key.nlist:,} lists x {load.inner // 2} components x 4 bytes"
    return (Term("a sketch of the centroids", 4 * load.key.nlist * (load.inner // 2), product, shared=True),)


def _rounding(load: Workload) -> tuple[Term, ...]:
    """What every thread holds while it rounds a group of vectors to bytes: products of components, and rows."""
    if load.refine != "sq8" or not load.refined:
        return ()
    together = min(load.dim, COMPONENTS_TOGETHER)
    columns = _PRODUCT_COPIES * together + _ROUNDED_COPIES * ROWS_AT_ONCE
    arithmetic = f"{THREADS_A_TASK} threads x {together:,} components x {columns:,} x 8 bytes"
    return (Term("rounding to bytes", THREADS_A_TASK * together * columns * 8, arithmetic),)


def _centroids(load: Workload, copies: int = 1, *, shared: bool = False) -> Term:
    product = f"{load.key.nlist:,} lists x {load.inner} dimensions x 4 bytes"
    return Term(
        "centroids", copies * load.centroids, f"{copies} copies of {product}" if copies > 1 else product, shared
    )


def _graph(load: Workload, copies: int, *, shared: bool = False) -> tuple[Term, ...]:
    size = graph_bytes(load.key)
    if not size:
        return ()
    product = f"{load.key.nlist:,} lists x {size // load.key.nlist} bytes"
    return (Term("HNSW graph", copies * size, f"{copies} copies of {product}" if copies > 1 else product, shared),)


def _way_out(load: Workload, needed: TaskMemory) -> str:
    largest = max(needed.terms, key=lambda term: term.bytes).what
    if largest == "the longest lists":
        return "an --index-key with lists (IVF), more of them, or smaller codes; or larger workers"
    if largest == "centroids":
        return "fewer lists, fewer dimensions (OPQm_d), or larger workers"
    return "larger workers" if load.key.nlist == 1 else "fewer lists, smaller codes, or larger workers"
