"""The tasks that train the lists: cells on their own, then passes over all of them (`stages.train` is their graph).

cells           a group of cells each   k-means in every cell
pass1, pass2    a group of cells each   rows look at the lists near their cell; sums over the lists they chose
move1, move2    one                     all sums together move the centroids; the first divides large lists
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.digests import digest
from transforms.index.assignment import TwoLevelAssigner
from transforms.index.training import cells, passes
from transforms.index.training.cells import CellGroup
from transforms.index.training.copies import Copies
from transforms.index.training.filling import divide, fill
from transforms.index.training.passes import ListSums
from transforms.runs import inventory
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.tasks.training_files import (
    Lists,
    Tensors,
    TensorsMarker,
    files_of,
    load_tensors,
    read_tensors,
    upload_tensors,
)

Pass = Literal["pass1", "pass2"]
Move = Literal["move1", "move2"]


def group_cells(run: Run) -> Iterator[CellGroup]:
    """Counts the rows of every cell and yields groups of cells; none where the trained index of the base stays."""
    if not inventory.retrains(run):
        return
    parents = read_tensors(run, "parents")
    nlist = faiss.extract_index_ivf(faiss.deserialize_index(parents["index"])).nlist
    sizes = cells.cell_sizes(run.store, files_of(run, "route"), len(parents["parents"]))
    yield from cells.group_cells(sizes, nlist)


class Routed:
    """The files of the routed sample, their markers read once a process; `Shared` takes objects with weak references.

    Attributes:
        files: one a block.
        checksums: of these.
        dim: components of a vector behind the transforms.
        head: by which directions rows of a cell are compared; None: by all of their components.
    """

    def __init__(self, run: Run) -> None:
        """Reads the markers of all blocks."""
        self.files = files_of(run, "route")
        self.checksums = [file.checksum for file in self.files]
        parents = read_tensors(run, "parents")
        self.dim: int = parents["parents"].shape[1]
        self.head: NDArray[np.float32] | None = parents.get("head")


def cluster_cells(run: Run, group: CellGroup, routed: Routed) -> None:
    """Clusters the cells of a group, and commits the centroids."""
    request = run.request
    task_digest = digest(group, request.seed, routed.checksums)
    if run.marker("cells", group.number, TensorsMarker, task_digest) is None:
        workers = request.encoder.threads
        rows = cells.read_cells(run.store, routed.files, group.cells, routed.dim, workers)
        centroids = cells.cluster_cells(
            rows,
            group,
            spherical=request.index.metric == "ip",
            seed=request.seed,
            head=routed.head,
            workers=workers,
        )
        tensors: Tensors = {"centroids": centroids, "counts": np.array(group.centroids, np.int64)}
        file = upload_tensors(run, layout.group_stem("cells", group.number), tensors)
        run.commit("cells", group.number, TensorsMarker(group.number, task_digest, file))


class Before(Routed):
    """What a pass starts from: the routed sample, and the lists."""

    def __init__(self, run: Run, look: Pass) -> None:
        """Reads the markers of the stages before the pass, and the lists when they are asked for."""
        super().__init__(run)
        self._run, self._look = run, look
        self._lists_of = _markers_before(run, look)
        self.digest = digest(look, _checksums(self._lists_of))
        self.copies = Copies.of(read_tensors(run, "parents"))

    @cached_property
    def assigner(self) -> TwoLevelAssigner:
        """Assigns to the lists before the pass."""
        run = self._run
        parents, lists = read_tensors(run, "parents")["parents"], _lists_before(run, self._look, self._lists_of)
        return TwoLevelAssigner(parents, lists.centroids, lists.bounds, run.request.index.metric == "ip")


def look(run: Run, pass_of: Pass, group: CellGroup, before: Before) -> None:
    """One group's part of a pass: makes and commits sums over the lists that its rows choose."""
    task_digest = digest(group, before.checksums, before.digest)
    if run.marker(pass_of, group.number, TensorsMarker, task_digest) is None:
        workers = run.request.encoder.threads
        rows = cells.read_cells(run.store, before.files, group.cells, before.dim, workers)
        sums = passes.look(before.assigner, rows, group.first_cell, workers, before.copies.weights(rows.ids))
        file = upload_tensors(run, layout.group_stem(pass_of, group.number), sums.tensors)
        run.commit(pass_of, group.number, TensorsMarker(group.number, task_digest, file))


def move_lists(run: Run, pass_of: Pass, move: Move, groups: int) -> None:
    """The other part of a pass: adds the sums of all groups, in their order, and commits the moved centroids."""
    markers, lists_of = run.markers(pass_of, range(groups), TensorsMarker), _markers_before(run, pass_of)
    task_digest = digest(_checksums(markers), _checksums(lists_of))
    if run.marker(move, 0, TensorsMarker, task_digest) is None:
        lists = _lists_before(run, pass_of, lists_of)
        parts = (ListSums.of(load_tensors(run.store, marker.tensors)) for marker in markers)
        spherical = run.request.index.metric == "ip"
        moved = passes.move(parts, lists.centroids, spherical=spherical)
        copies = len(Copies.of(read_tensors(run, "parents"))) > 0
        moved, bounds = fill(moved, lists.bounds, copies=copies, spherical=spherical)
        if pass_of != "pass2":  # what is divided needs another pass
            moved, bounds = divide(moved, bounds, spherical=spherical)
        file = upload_tensors(run, move, {**moved.tensors, "bounds": bounds})
        run.commit(move, 0, TensorsMarker(0, task_digest, file))


def _markers_before(run: Run, look: Pass) -> list[TensorsMarker]:
    """The markers of what made the lists that a pass starts from."""
    if look == "pass2":
        return run.markers("move1", [0], TensorsMarker)
    done = run.stage_marker("cells")
    assert done is not None  # a pass begins after it
    return run.markers("cells", range(done.tasks), TensorsMarker)


def _lists_before(run: Run, look: Pass, markers: list[TensorsMarker]) -> Lists:
    """The lists that a pass starts from, of what `_markers_before` returned."""
    parts = [load_tensors(run.store, marker.tensors) for marker in markers]
    return Lists(parts[0]["centroids"], parts[0]["bounds"]) if look == "pass2" else Lists.joined(parts)


def _checksums(markers: list[TensorsMarker]) -> list[str]:
    return [marker.tensors.checksum for marker in markers]
