"""What the graph of training (`transforms.stages.train`) does cell by cell, and pass by pass."""

from collections.abc import Iterator

from apache_beam.utils.shared import Shared

from transforms.index.training.cells import CellGroup
from transforms.markers import StageMarker
from transforms.runs import beacons, inventory
from transforms.runs.run import Run
from transforms.stages.run_task import RunTask
from transforms.tasks.train_lists import Before, Move, Pass, Routed, cluster_cells, group_cells, look, move_lists


class GroupCells(RunTask):
    """Counts the rows of every cell and yields groups of cells."""

    def process(self, before: StageMarker) -> Iterator[CellGroup]:
        """Yields small records."""
        yield from group_cells(self._run)


class ClusterCells(RunTask):
    """Clusters the cells of a group."""

    def __init__(self, run: Run) -> None:
        """Takes the run."""
        super().__init__(run)
        self._shared = Shared()

    def process(self, group: CellGroup) -> Iterator[int]:
        """Yields the number of the group."""
        with beacons.lit(self._run, "cells", group.number):
            cluster_cells(self._run, group, self._shared.acquire(lambda: Routed(self._run)))
        yield group.number


class Look(RunTask):
    """One group's part of a pass: sums over the lists that its rows choose."""

    def __init__(self, run: Run, pass_of: Pass) -> None:
        """Takes the run and which pass it is."""
        super().__init__(run)
        self._pass = pass_of
        self._shared = Shared()

    def process(self, group: CellGroup) -> Iterator[int]:
        """Yields the number of the group."""
        with beacons.lit(self._run, self._pass, group.number):
            look(self._run, self._pass, group, self._shared.acquire(lambda: Before(self._run, self._pass)))
        yield group.number


class MoveLists(RunTask):
    """The other part of a pass: adds the sums of all groups, in their order, and moves the centroids."""

    def __init__(self, run: Run, pass_of: Pass, move: Move) -> None:
        """Takes the run, which pass it is, and its stage."""
        super().__init__(run)
        self._pass, self._move = pass_of, move

    def process(self, looked: StageMarker) -> Iterator[int]:
        """Yields 0, or nothing where the trained index of the base stays."""
        if inventory.retrains(self._run):
            with beacons.lit(self._run, self._move, 0):
                move_lists(self._run, self._pass, self._move, looked.tasks)
            yield 0
