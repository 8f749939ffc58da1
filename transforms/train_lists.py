"""The tasks that train the lists: cells on their own, then passes over all of them (`transforms.train` is their graph).

cells           a group of cells each   k-means in every cell
pass1, pass2    a group of cells each   rows look into the nearest few cells; sums over the lists they chose
move1, move2    one                     all sums together move the centroids
"""

from collections.abc import Iterator
from typing import Literal

import apache_beam as beam
import faiss
import numpy as np
from apache_beam.utils.shared import Shared

from transforms import layout
from transforms.index import cells, refining
from transforms.index.assignment import TwoLevelAssigner
from transforms.index.cells import CellGroup
from transforms.index.refining import ListSums
from transforms.records import StageMarker, digest
from transforms.run import Run, Stage
from transforms.training_files import Lists, Tensors, TensorsMarker, files_of, read_tensors, upload_tensors

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
        parents = read_tensors(run, "parents")
        nlist = faiss.extract_index_ivf(faiss.deserialize_index(parents["index"])).nlist
        sizes = cells.cell_sizes(run.store, files_of(run, "route"), len(parents["parents"]))
        yield from cells.group_cells(sizes, nlist)


class ClusterCells(beam.DoFn):
    """Clusters the cells of a group."""

    def __init__(self, run: Run) -> None:
        """Takes the run."""
        self._run = run

    def process(self, group: CellGroup) -> Iterator[int]:
        """Yields the number of the group."""
        run, request = self._run, self._run.request
        routed = files_of(run, "route")
        answered = digest(group, request.seed, [file.checksum for file in routed])
        if run.marker("cells", group.number, TensorsMarker, answered) is None:
            dim = read_tensors(run, "parents")["parents"].shape[1]
            rows = cells.read_cells(run.store, routed, group.cells, dim)
            centroids = cells.cluster_cells(
                rows,
                group,
                spherical=request.index.metric == "ip",
                seed=request.seed,
                workers=request.encoder.threads,
            )
            tensors: Tensors = {"centroids": centroids, "counts": np.array(group.centroids, np.int64)}
            file = upload_tensors(run, layout.group_stem("cells", group.number), tensors)
            run.commit("cells", group.number, TensorsMarker(group.number, answered, file))
        yield group.number


class _Assigner:
    """The lists before a pass, read once a process; `Shared` needs an object that takes weak references."""

    def __init__(self, run: Run, look: Pass) -> None:
        parents, lists = read_tensors(run, "parents")["parents"], _lists_before(run, look)
        self.assigner = TwoLevelAssigner(parents, lists.centroids, lists.bounds, run.request.index.metric == "ip")


class Look(beam.DoFn):
    """One group's part of a pass: sums over the lists that its rows choose."""

    def __init__(self, run: Run, look: Pass) -> None:
        """Takes the run and which pass it is."""
        self._run, self._look = run, look
        self._shared = Shared()

    def process(self, group: CellGroup) -> Iterator[int]:
        """Yields the number of the group."""
        run, look = self._run, self._look
        routed = files_of(run, "route")
        before = digest(look, _checksums_before(run, look))
        answered = digest(group, [file.checksum for file in routed], before)
        if run.marker(look, group.number, TensorsMarker, answered) is None:
            shared = self._shared.acquire(lambda: _Assigner(run, look), tag=before)
            dim = shared.assigner.parents.shape[1]
            rows = cells.read_cells(run.store, routed, group.cells, dim)
            sums = refining.look(shared.assigner, rows.vectors, workers=run.request.encoder.threads)
            file = upload_tensors(run, layout.group_stem(look, group.number), sums.tensors)
            run.commit(look, group.number, TensorsMarker(group.number, answered, file))
        yield group.number


class MoveLists(beam.DoFn):
    """The other part of a pass: adds the sums of all groups, in their order, and moves the centroids."""

    def __init__(self, run: Run, look: Pass, move: Move) -> None:
        """Takes the run, which pass it is, and its stage."""
        self._run, self._look, self._move = run, look, move

    def process(self, looked: StageMarker) -> Iterator[int]:
        """Yields 0."""
        run, look = self._run, self._look
        markers = run.markers(look, range(looked.tasks), TensorsMarker)
        answered = digest([marker.tensors.checksum for marker in markers], _checksums_before(run, look))
        if run.marker(self._move, 0, TensorsMarker, answered) is None:
            lists = _lists_before(run, look)
            parts = (ListSums.of(read_tensors(run, look, group)) for group in range(looked.tasks))
            moved = refining.move(parts, lists.centroids, spherical=run.request.index.metric == "ip")
            file = upload_tensors(run, self._move, {**moved.tensors, "bounds": lists.bounds})
            run.commit(self._move, 0, TensorsMarker(0, answered, file))
        yield 0


def _lists_before(run: Run, look: Pass) -> Lists:
    """The lists that a pass starts from."""
    if look == "pass2":
        tensors = read_tensors(run, "move1")
        return Lists(tensors["centroids"], tensors["bounds"])
    return Lists.joined([read_tensors(run, "cells", group) for group in range(_groups(run))])


def _checksums_before(run: Run, look: Pass) -> list[str]:
    before: Stage = "cells" if look == "pass1" else "move1"
    tasks = _groups(run) if look == "pass1" else 1
    return [marker.tensors.checksum for marker in run.markers(before, range(tasks), TensorsMarker)]


def _groups(run: Run) -> int:
    done = run.stage_marker("cells")
    assert done is not None  # a pass begins after it
    return done.tasks
