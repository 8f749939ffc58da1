"""Trains on vectors in memory, step by step as the stages do it, without Beam and without shards."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.index.assignment import TwoLevelAssigner
from transforms.index.index_key import IndexKey
from transforms.index.training import assemble, cells, figures, passes, routing, save
from transforms.index.training.assemble import Assembled
from transforms.index.training.filling import divide, fill
from transforms.index.training.passes import Moved
from transforms.index.training.routing import Router
from transforms.index.training.vector_codes import to_codes
from transforms.markers import TrainedIndex
from transforms.records import FileReference, Metric
from transforms.storage.store import Store

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class SmallTraining:
    """What every step made."""

    trained: TrainedIndex
    assembled: Assembled
    lists: Moved


def train(
    store: Store,
    key: str,
    metric: Metric,
    sample: Vectors,
    *,
    seed: int = 0,
    cuts: Sequence[int] = (),
    group_rows: int = figures.GROUP_ROWS,
    held_out: int = 16,
) -> SmallTraining:
    """Trains on all of a sample but its last rows, which are held out; it comes in blocks that are cut at `cuts`."""
    parsed = IndexKey.parse(key)
    pilot = sample[: len(sample) - held_out]
    router = assemble.train_parents(parsed, metric, pilot, seed)
    lists = train_lists(store, router, pilot, parsed.nlist, seed=seed, cuts=cuts, group_rows=group_rows)
    assembled = assemble.assemble(router, lists.centroids, pilot, sample[len(pilot) :], seed)
    trained = save.save(store, assembled, lists, parsed, metric, normalized=True, held_out=held_out, seed=seed)
    return SmallTraining(trained, assembled, lists)


def train_lists(
    store: Store,
    router: Router,
    sample: Vectors,
    nlist: int,
    *,
    seed: int = 0,
    cuts: Sequence[int] = (),
    group_rows: int = figures.GROUP_ROWS,
) -> Moved:
    """Routes a sample, clusters its cells and passes over all lists."""
    files = route(store, router, sample, cuts)
    dim, spherical = router.parents.shape[1], router.spherical
    groups = cells.group_cells(cells.cell_sizes(store, files, len(router.parents)), nlist, group_rows)
    rows = [cells.read_cells(store, files, group.cells, dim) for group in groups]
    centroids = np.concatenate(
        [
            cells.cluster_cells(part, group, spherical=spherical, seed=seed, head=router.head)
            for part, group in zip(rows, groups, strict=True)
        ]
    )
    counts = [count for group in groups for count in group.centroids]
    bounds = np.append(0, np.cumsum(counts))
    for number in range(figures.PASSES):
        assigner = TwoLevelAssigner(router.parents, centroids, bounds, spherical)
        weighted = (
            (part, group.first_cell, router.copies.weights(part.ids)) for part, group in zip(rows, groups, strict=True)
        )
        sums = (passes.look(assigner, part, first, weights=weights) for part, first, weights in weighted)
        moved = passes.move(sums, centroids, spherical=spherical)
        moved, bounds = fill(moved, bounds, copies=len(router.copies) > 0, spherical=spherical)
        if number + 1 < figures.PASSES:
            moved, bounds = divide(moved, bounds, spherical=spherical)
        centroids = moved.centroids
    return moved


def route(store: Store, router: Router, sample: Vectors, cuts: Sequence[int] = ()) -> list[FileReference]:
    """Writes a sample, whose ids are its positions, as routed files: one a block."""
    edges = [0, *sorted(cuts), len(sample)]
    files = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        ids = np.arange(start, stop, dtype=np.int64)
        with store.scratch() as scratch:
            file = scratch / "lists.ivf"
            with file.open("wb") as out:
                part = ids, to_codes(sample[start:stop], half=False)
                _, seal = routing.write_routed(out, router, [part], half=False)
            files.append(store.upload(file, "routed", f"block-{number}", f"xxh3:{seal.checksum}"))
    return files
