"""The tasks that train the lists: cells on their own, then passes over all of them (`stages.train` is their graph).

cells           a group of cells each   k-means in every cell
pass1, pass2    a group of cells each   rows look into the nearest few cells; sums over the lists they chose
move1, move2    one                     all sums together move the centroids
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import apache_beam as beam
import faiss
import numpy as np
from apache_beam.utils.shared import Shared

from transforms.index.assignment import TwoLevelAssigner
from transforms.index.training import cells, passes
from transforms.index.training.cells import CellGroup
from transforms.index.training.passes import ListSums
from transforms.markers import StageMarker
from transforms.records import digest
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


class GroupCells(beam.DoFn):
    """Counts the rows of every cell and yields groups of cells."""

    def __init__(self, run: Run) -> None:
        """Takes the run."""
        self._run = run

    def process(self, before: StageMarker) -> Iterator[CellGroup]:
        """Yields small records."""
        run = self._run
        if not inventory.retrains(run):
            return
        parents = read_tensors(run, "parents")
        nlist = faiss.extract_index_ivf(faiss.deserialize_index(parents["index"])).nlist
        sizes = cells.cell_sizes(run.store, files_of(run, "route"), len(parents["parents"]))
        yield from cells.group_cells(sizes, nlist)


class _Routed:
    """The files of the routed sample, their markers read once a process; `Shared` takes objects with weak references.

    Attributes:
        files: one a block.
        checksums: of these.
        dim: components of a vector behind the transforms.
    """

    def __init__(self, run: Run) -> None:
        self.files = files_of(run, "route")
        self.checksums = [file.checksum for file in self.files]
        self.dim: int = read_tensors(run, "parents")["parents"].shape[1]


class ClusterCells(beam.DoFn):
    """Clusters the cells of a group."""

    def __init__(self, run: Run) -> None:
        """Takes the run."""
        self._run = run
        self._shared = Shared()

    def process(self, group: CellGroup) -> Iterator[int]:
        """Yields the number of the group."""
        run, request = self._run, self._run.request
        routed = self._shared.acquire(lambda: _Routed(run))
        answered = digest(group, request.seed, routed.checksums)
        if run.marker("cells", group.number, TensorsMarker, answered) is None:
            workers = request.encoder.threads
            rows = cells.read_cells(run.store, routed.files, group.cells, routed.dim, workers)
            centroids = cells.cluster_cells(
                rows, group, spherical=request.index.metric == "ip", seed=request.seed, workers=workers
            )
            tensors: Tensors = {"centroids": centroids, "counts": np.array(group.centroids, np.int64)}
            file = upload_tensors(run, layout.group_stem("cells", group.number), tensors)
            run.commit("cells", group.number, TensorsMarker(group.number, answered, file))
        yield group.number


class _Before(_Routed):
    """What a pass starts from: the routed sample, and the lists."""

    def __init__(self, run: Run, look: Pass) -> None:
        super().__init__(run)
        self._run, self._look = run, look
        self._lists_of = _markers_before(run, look)
        self.digest = digest(look, _checksums(self._lists_of))

    @cached_property
    def assigner(self) -> TwoLevelAssigner:
        """Assigns to the lists before the pass."""
        run = self._run
        parents, lists = read_tensors(run, "parents")["parents"], _lists_before(run, self._look, self._lists_of)
        return TwoLevelAssigner(parents, lists.centroids, lists.bounds, run.request.index.metric == "ip")


class Look(beam.DoFn):
    """One group's part of a pass: sums over the lists that its rows choose."""

    def __init__(self, run: Run, look: Pass) -> None:
        """Takes the run and which pass it is."""
        self._run, self._look = run, look
        self._shared = Shared()

    def process(self, group: CellGroup) -> Iterator[int]:
        """Yields the number of the group."""
        run, look = self._run, self._look
        before = self._shared.acquire(lambda: _Before(run, look))
        answered = digest(group, before.checksums, before.digest)
        if run.marker(look, group.number, TensorsMarker, answered) is None:
            workers = run.request.encoder.threads
            rows = cells.read_cells(run.store, before.files, group.cells, before.dim, workers)
            sums = passes.look(before.assigner, rows.vectors, workers)
            file = upload_tensors(run, layout.group_stem(look, group.number), sums.tensors)
            run.commit(look, group.number, TensorsMarker(group.number, answered, file))
        yield group.number


class MoveLists(beam.DoFn):
    """The other part of a pass: adds the sums of all groups, in their order, and moves the centroids."""

    def __init__(self, run: Run, look: Pass, move: Move) -> None:
        """Takes the run, which pass it is, and its stage."""
        self._run, self._look, self._move = run, look, move

    def process(self, looked: StageMarker) -> Iterator[int]:
        """Yields 0, or nothing where the trained index of the base stays."""
        run, look = self._run, self._look
        if not inventory.retrains(run):
            return
        markers, lists_of = run.markers(look, range(looked.tasks), TensorsMarker), _markers_before(run, look)
        answered = digest(_checksums(markers), _checksums(lists_of))
        if run.marker(self._move, 0, TensorsMarker, answered) is None:
            lists = _lists_before(run, look, lists_of)
            parts = (ListSums.of(load_tensors(run.store, marker.tensors)) for marker in markers)
            moved = passes.move(parts, lists.centroids, spherical=run.request.index.metric == "ip")
            file = upload_tensors(run, self._move, {**moved.tensors, "bounds": lists.bounds})
            run.commit(self._move, 0, TensorsMarker(0, answered, file))
        yield 0


def _markers_before(run: Run, look: Pass) -> list[TensorsMarker]:
    """The markers of what made the lists that a pass starts from."""
    if look == "pass2":
        return run.markers("move1", [0], TensorsMarker)
    done = run.stage_marker("cells")
    assert done is not None  # a pass begins after it
    return run.markers("cells", range(done.tasks), TensorsMarker)


def _lists_before(run: Run, look: Pass, markers: list[TensorsMarker]) -> Lists:
    """The lists that a pass starts from, of what `_markers_before` found."""
    parts = [load_tensors(run.store, marker.tensors) for marker in markers]
    return Lists(parts[0]["centroids"], parts[0]["bounds"]) if look == "pass2" else Lists.joined(parts)


def _checksums(markers: list[TensorsMarker]) -> list[str]:
    return [marker.tensors.checksum for marker in markers]
