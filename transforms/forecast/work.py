"""What every stage of a build does, counted: operations and bytes, each with its formula and the rate that it rests on.

The algorithms are those of the modules named in each function; a factor of 2 in operations is a multiply-add.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from transforms.forecast.operations import (
    BOUND_COMPONENTS,
    ENTRY_COMPONENTS,
    PRODUCT_COMPONENTS,
    SCORE_COMPONENTS,
    formula,
    graph_made,
    kmeans_in_cells,
)
from transforms.forecast.rates import RateName, Rates
from transforms.forecast.workload import COLUMN_BYTES, Machines, Workload
from transforms.generations import key_tables
from transforms.index.training import figures
from transforms.index.training.figures import ITERATIONS, PILOT_PER_PARENT
from transforms.runs.run import STAGES, Stage
from transforms.shards.byte_vectors import COMPONENTS_TOGETHER
from transforms.shards.vectors import BATCH_ROWS

_PRODUCT_QUANTIZER = re.compile(r"^PQ(\d+)(?:x(\d+))?")
_KEY_BYTES = key_tables.LISTED.itemsize
"""Shuffled an item, to find keys that occur twice."""

_ENTRY_BYTES = key_tables.ENTRY.itemsize
"""Shuffled an item, and written, for the key tables."""

_EIGEN_FLOPS = 22
"""Times d³: an eigendecomposition of a symmetric matrix (Golub, Van Loan 2013, §8.3)."""

_ROUNDING_FLOPS = 8
"""Times n · d · min(d, 2,048), to round vectors to bytes: products of components, and of errors with what evens them
out, are of float64, which takes twice as long, and half of the time is in no product. 4,096 x 1,280 took a core 0.64
seconds."""

_FIRST_LOOKS: Final = 2
"""Of the first batch that canary queries are compared with the nearest distances are found, and then looked at as those
of later ones are: by one thread."""

_FEW_COMPONENTS: Final = 16
"""Sub-vectors of fewer are encoded one by one, of more in matrix products (`transforms.index.encode`)."""


@dataclass(frozen=True)
class Work:
    """So much of one thing, at one rate."""

    what: str
    amount: float
    formula: str
    rate: RateName


@dataclass(frozen=True)
class StageCost:
    """A stage: tasks that can run side by side, the work of all of them, and the bytes they read and write."""

    stage: Stage
    tasks: int
    works: tuple[Work, ...]
    reads: int = 0
    writes: int = 0
    small_reads: int = 0

    def seconds(self, rates: Rates, machines: Machines, beside: float = 0.0) -> float:
        """Returns how long it takes; tasks are alike, a slot takes one after the other, and storage has a bandwidth.

        `beside` are seconds of work that has no rate here.
        """
        beside_work = rates.step_seconds if machines.is_one_process else rates.stage_seconds
        if not self.tasks:
            return beside_work
        return max(beside + self._working(rates, machines), self._moving(machines)) + beside_work

    def _moving(self, machines: Machines) -> float:
        busy = min(self.tasks, machines.workers)
        return (self.reads + self.writes) / machines.bandwidth / busy if machines.bandwidth else 0.0

    def _working(self, rates: Rates, machines: Machines) -> float:
        work = sum(work.amount / rates.of(work.rate, machines.threads) for work in self.works)
        rounds = -(-self.tasks // machines.slots)
        small = rates.file_seconds * self.small_reads
        return rounds * ((work + small) / self.tasks + rates.marker_seconds)


def stage_costs(load: Workload) -> tuple[StageCost, ...]:
    """Returns every stage of a build, in order."""
    return tuple(_COUNTED[stage](load) for stage in STAGES)


def _plan(load: Workload) -> StageCost:
    if load.item_bytes is None:
        return StageCost("plan", 1, (), small_reads=load.shards)
    shuffled = load.rows * _KEY_BYTES
    keys = Work("hashes of keys", shuffled, formula(load.rows, _KEY_BYTES), "shuffle_bytes")
    return StageCost("plan", min(256, load.shards), (keys,), small_reads=load.shards)


def _embed(load: Workload) -> StageCost:
    """`transforms.tasks.embed.register`; embedding itself is counted by the rate of the encoder (see `forecast`)."""
    if load.item_bytes is not None:
        return StageCost("embed", load.shards, (), reads=load.rows * load.item_bytes, writes=load.storage["embeddings"])
    check = Work("vectors checked", load.stored, _stored(load), "check_bytes")
    return StageCost("embed", load.shards, (check,), reads=load.stored)


def _keys(load: Workload) -> StageCost:
    """`transforms.stages.keys`; ready embeddings have no key tables."""
    if load.item_bytes is None:
        return StageCost("keys", 0, ())
    entries = load.rows * _ENTRY_BYTES
    shuffled = Work("entries of items", entries, formula(load.rows, _ENTRY_BYTES), "shuffle_bytes")
    reads = load.rows * COLUMN_BYTES
    return StageCost("keys", 1 << key_tables.bits_for(load.rows), (shuffled,), reads, entries, small_reads=load.shards)


def _of_a_reindex(stage: Stage) -> Callable[[Workload], StageCost]:
    """A stage that has nothing to do in a first build."""
    return lambda _: StageCost(stage, 0, ())


def _sample(load: Workload) -> StageCost:
    """`transforms.index.training.sampling.write_sample`."""
    kept = load.sampled * (2 * load.dim + 8)
    looks: tuple[Work, ...] = (_read_all(load),)
    if load.item_bytes is None:
        looks = (
            Work("vectors looked through", load.stored, _stored(load), "scan_bytes"),
            Work("sample converted", 2 * load.sampled * load.dim, formula(load.sampled, load.dim, 2), "read_bytes"),
        )
    works = (*looks, Work("sample written", kept, f"{load.sampled:,} x (2 x {load.dim} + 8)", "list_bytes"))
    return StageCost("sample", load.blocks, works, load.stored, kept, small_reads=2 * load.shards)


def _parents(load: Workload) -> StageCost:
    """`transforms.index.training.assemble.train_parents`."""
    pilot, dim, inner = load.pilot, load.dim, load.inner
    some = min(pilot, PILOT_PER_PARENT * load.cells)
    works: tuple[Work, ...] = (*_pilot(load), *_kmeans("parents", some, load))
    if load.key.transforms:
        rotated = min(pilot, figures.ROTATION_ROWS)
        rotation = 2 * rotated * dim**2 + _EIGEN_FLOPS * dim**3
        works += (
            Work("rotation", rotation, f"2 x {rotated:,} x {dim}² + {_EIGEN_FLOPS} x {dim}³", "matrix_flops"),
            _transform(some, load),
        )
    return StageCost("parents", 1, works, 2 * pilot * dim, 4 * dim * inner, small_reads=load.shards + load.blocks)


def _route(load: Workload) -> StageCost:
    """`transforms.index.training.routing.write_routed`."""
    rows, inner = load.trained, load.inner
    written = rows * (2 * inner + 8)
    works = (
        Work("sample read", 2 * rows * load.dim, f"{formula(rows, load.dim, 2)} bytes", "read_bytes"),
        *([_transform(rows, load)] if load.key.transforms else []),
        _scored("to parents", rows, load.cells, inner, "flat_flops"),
        Work("routed sample", written, f"{rows:,} x (2 x {inner} + 8)", "list_bytes"),
    )
    return StageCost("route", load.blocks, works, 2 * rows * load.dim, written, small_reads=3 * load.blocks)


def _cells(load: Workload) -> StageCost:
    """`transforms.index.training.cells.cluster_cells`."""
    rows, inner, a_cell = load.trained, load.inner, load.lists_a_cell
    compared = figures.HEAD_COMPONENTS if inner >= 2 * figures.HEAD_COMPONENTS else inner
    kmeans = [Work("k-means in cells", *kmeans_in_cells(rows, a_cell, compared), "kmeans_flops")]
    if compared < inner:
        kmeans.append(Work("compared", 2 * rows * inner * compared, formula(2, rows, inner, compared), "matrix_flops"))
    works = (_take("routed sample", rows, inner), *(kmeans if load.key.nlist > 1 else []))
    reads, opened = rows * (2 * inner + 8), load.groups * load.blocks
    return StageCost("cells", load.groups, works, reads, load.centroids, small_reads=2 * opened)


def _pass(stage: Stage) -> Callable[[Workload], StageCost]:
    def cost(load: Workload) -> StageCost:
        """`transforms.index.training.passes.look`."""
        rows, inner = load.trained, load.inner
        sums = load.sums
        works = (
            _take("routed sample", rows, inner),
            _looks("lists of cells", rows, load.lists_a_cell + min(figures.PASS_LISTS, load.key.nlist), inner),
            _looks(
                "lists near lists",
                load.key.nlist,
                min((1 + figures.PASS_CELLS) * load.lists_a_cell, load.key.nlist),
                inner,
            ),
            Work("sums", 4 * rows * inner, formula(4, rows, inner), "merge_bytes"),
            Work("sums written", sums, formula(4, sums // (4 * inner), inner), "write_bytes"),
        )
        reads, opened = rows * (2 * inner + 8), load.groups * load.blocks
        return StageCost(stage, load.groups, works, reads, sums, small_reads=2 * opened)

    return cost


def _move(stage: Stage) -> Callable[[Workload], StageCost]:
    def cost(load: Workload) -> StageCost:
        """`transforms.index.training.passes.move`."""
        sums = load.sums
        text = f"{formula(4, sums // (4 * load.inner), load.inner)} + {formula(4, 4, load.key.nlist, load.inner)}"
        read = Work("sums read", sums + 4 * load.centroids, text, "merge_bytes")
        write = Work("centroids written", load.centroids, formula(4, load.key.nlist, load.inner), "write_bytes")
        return StageCost(stage, 1, (read, write), sums, load.centroids, small_reads=2 * load.groups)

    return cost


def _train(load: Workload) -> StageCost:
    """`transforms.index.training.assemble.assemble`, `transforms.index.canaries.make`."""
    lists, inner, match = load.key.nlist, load.inner, _PRODUCT_QUANTIZER.match(load.key.storage)
    some = load.coded
    works = [
        *_pilot(load),
        *([_transform(some, load)] if load.key.transforms else []),
        *_kmeans("parents of lists", min(lists, PILOT_PER_PARENT * load.cells), load),
        Work("index written", load.centroids, formula(4, lists, inner), "write_bytes"),
    ]
    if match:
        codes, iterations = 1 << int(match[2] or 8), figures.codebook_iterations(some)
        flops = 2 * some * codes * inner * iterations
        text = formula(2, some, codes, inner, iterations)
        works.append(Work("codebooks", flops, text, "codebook_flops"))
    if not load.assigned_flat:
        rows = figures.HELD_OUT + figures.AUDIT_QUERIES
        works.append(_scored("audit", rows, lists, inner, "flat_flops"))
    if load.key.coarse:
        links = int(load.key.coarse.removeprefix("_HNSW"))
        works.append(Work("graph", *graph_made(lists, links, inner), "link_flops"))
    watched = min(load.pilot, figures.CANARY_ROWS)
    factors = (2, figures.CANARY_QUERIES, watched, load.dim)
    works.append(Work("canaries", math.prod(factors), formula(*factors), "matrix_flops"))
    looked = watched + _FIRST_LOOKS * min(watched, BATCH_ROWS)
    works.append(
        Work(
            "their neighbours",
            4 * figures.CANARY_QUERIES * looked,
            formula(4, figures.CANARY_QUERIES, looked),
            "take_bytes",
        )
    )
    works.append(_assigned(watched, load))
    return StageCost(
        "train", 1, tuple(works), 2 * load.pilot * load.dim, load.storage["trained"], small_reads=load.shards
    )


def _add(load: Workload) -> StageCost:
    """`transforms.index.encode`, `transforms.index.lists.writer`."""
    rows, inner = load.rows, load.inner
    works = [_read_all(load)]
    if load.key.transforms:
        works.append(_transform(rows, load))
    works.append(_assigned(rows, load))
    if match := _PRODUCT_QUANTIZER.match(load.key.storage):
        works.append(_encoded(rows, int(match[1]), 1 << int(match[2] or 8), inner))
    works.append(Work("lists", load.listed, formula(rows, load.entry), "list_bytes"))
    if load.refined and load.refine == "sq8":
        factors = (_ROUNDING_FLOPS, rows, load.dim, min(load.dim, COMPONENTS_TOGETHER))
        works.append(Work("vectors to bytes", math.prod(factors), formula(*factors), "matrix_flops"))
    if load.refined:
        works.append(Work("vectors", load.refined, formula(rows, load.refined // rows), "write_bytes"))
    written = load.listed + load.refined
    return StageCost("add", load.blocks, tuple(works), load.stored, written, small_reads=load.shards)


def _tier(load: Workload) -> StageCost:
    """`transforms.tasks.merge.segments`."""
    if not load.tiers:
        return StageCost("tier", 0, ())
    merged = Work("lists", load.listed, formula(load.rows, load.entry), "merge_bytes")
    reads = load.tier_files * load.blocks // load.merge_groups
    return StageCost("tier", load.tier_files, (merged,), load.listed, load.listed, small_reads=reads)


def _merge(load: Workload) -> StageCost:
    """`transforms.tasks.merge.file`."""
    works: tuple[Work, ...] = (Work("lists", load.listed, formula(load.rows, load.entry), "merge_bytes"),)
    if not load.object_store:
        works += (Work("head", load.centroids, formula(4, load.key.nlist, load.inner), "write_bytes"),)
    size = load.storage["index"]
    return StageCost("merge", load.pieces, works, size, size, small_reads=load.merge_inputs * load.pieces)


def _publish(load: Workload) -> StageCost:
    return StageCost("publish", 1, (), small_reads=load.shards + load.blocks + load.pieces)


def _stored(load: Workload) -> str:
    return f"{formula(load.rows, load.dim, load.component)} bytes"


def _read_all(load: Workload) -> Work:
    return Work(
        "vectors read", load.stored, _stored(load), "read_bytes" if load.item_bytes is None else "parquet_bytes"
    )


def _take(what: str, rows: int, dim: int) -> Work:
    return Work(f"{what} read", 2 * rows * dim, f"{formula(rows, dim, 2)} bytes", "take_bytes")


def _pilot(load: Workload) -> tuple[Work, Work]:
    """The pilot, read at once into memory that is new; rows of it that something is trained on are taken in blocks."""
    copied = Work("pilot copied", 4 * load.pilot * load.dim, formula(4, load.pilot, load.dim), "take_bytes")
    return _take("pilot", load.pilot, load.dim), copied


def _transform(rows: int, load: Workload) -> Work:
    return Work("transform", 2 * rows * load.dim * load.inner, formula(2, rows, load.dim, load.inner), "matrix_flops")


def _kmeans(what: str, rows: int, load: Workload) -> tuple[Work, ...]:
    """A mean, where there is one cell only, is not worth a line."""
    if load.cells == 1:
        return ()
    return (_scored(what, rows, load.cells, load.inner, "kmeans_flops", ITERATIONS),)


def _assigned(rows: int, load: Workload) -> Work:
    if not load.assigned_flat:
        return _grouped(rows, load.probes, load)
    factors = (2, rows, load.key.nlist, flat_components(load.inner))
    return Work("nearest lists", math.prod(factors), formula(*factors), "flat_flops")


def flat_components(inner: int) -> int:
    """As how many components a list counts in flat assignment: between all of them and bounds that rule all others out.

    With 256, assigning picture embeddings took as long as products of 296, and clustered vectors as those of 120.
    """
    whole = inner + PRODUCT_COMPONENTS
    return round(math.sqrt(whole * min(whole, inner // 4 + BOUND_COMPONENTS)))


def _scored(what: str, rows: int, lists: int, inner: int, rate: RateName, times: int = 1) -> Work:
    """Products of rows and centroids, and the look at each of them."""
    amount = 2 * rows * lists * (inner + PRODUCT_COMPONENTS) * times
    text = f"{formula(2, rows, lists)} x ({inner} + {PRODUCT_COMPONENTS})"
    return Work(what, amount, text if times == 1 else f"{text} x {times}", rate)


def _looks(what: str, rows: int, lists: int, inner: int) -> Work:
    """Products of few rows at a time with the centroids that they look at."""
    components = inner + SCORE_COMPONENTS
    text = f"{formula(2, rows, lists)} x ({inner} + {SCORE_COMPONENTS})"
    return Work(what, 2 * rows * lists * components, text, "grouped_flops")


def _encoded(rows: int, parts: int, codes: int, inner: int) -> Work:
    """Distances of sub-vectors to the entries of their codebooks."""
    of_part = inner // parts
    if of_part >= _FEW_COMPONENTS:
        return _scored("codes", rows, codes * parts, of_part, "flat_flops")
    text = f"{formula(2, rows, codes, parts)} x ({of_part} + {ENTRY_COMPONENTS})"
    return Work("codes", 2 * rows * codes * parts * (of_part + ENTRY_COMPONENTS), text, "encode_flops")


def _grouped(rows: int, probes: int, load: Workload) -> Work:
    lists = min(probes, load.cells) * load.lists_a_cell
    components = load.inner + SCORE_COMPONENTS
    text = f"{formula(2, rows)} x ({load.cells} + {lists:,}) x ({load.inner} + {SCORE_COMPONENTS})"
    return Work("nearest lists", 2 * rows * (load.cells + lists) * components, text, "grouped_flops")


_COUNTED: Final[dict[Stage, Callable[[Workload], StageCost]]] = {
    "plan": _plan,
    "embed": _embed,
    "keys": _keys,
    "tombstones": _of_a_reindex("tombstones"),
    "drift": _of_a_reindex("drift"),
    "sample": _sample,
    "parents": _parents,
    "route": _route,
    "cells": _cells,
    "pass1": _pass("pass1"),
    "move1": _move("move1"),
    "pass2": _pass("pass2"),
    "move2": _move("move2"),
    "train": _train,
    "add": _add,
    "compact": _of_a_reindex("compact"),
    "tier": _tier,
    "merge": _merge,
    "publish": _publish,
}
