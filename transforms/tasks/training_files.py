"""What the tasks of training leave for each other below the run's folder: a file of tensors, and a marker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from transforms.index.choose import choose
from transforms.index.index_key import IndexKey
from transforms.markers import ListsMarker
from transforms.records import FORMAT_VERSION, FileReference
from transforms.runs import inventory
from transforms.runs.run import Run, Stage
from transforms.storage import layout, whole_files
from transforms.storage.store import Store

Tensors = Mapping[str, NDArray[Any]]  # float32, int64, uint8: the file says which


@dataclass(frozen=True)
class TensorsMarker:
    """A task of training is done: its result is one file of tensors."""

    number: int
    digest: str
    tensors: FileReference
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Lists:
    """The lists as far as they are trained: `centroids` float32 `(nlist, d)`, cell c has `bounds[c]:bounds[c + 1]`."""

    centroids: NDArray[np.float32]
    bounds: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: list[Tensors]) -> Self:
        """Puts what the groups of cells made, in their order, together."""
        counts = np.concatenate([part["counts"] for part in parts])
        return cls(np.concatenate([part["centroids"] for part in parts]), np.append(0, np.cumsum(counts)))


def key_of(run: Run) -> tuple[IndexKey, int]:
    """Returns the index that is to be trained, and the rows that there are. Reads the marker of every shard."""
    if run.base is None:
        rows = min(sum(marker.rows for marker in run.shards()), run.plan.rows)
    else:
        rows = inventory.live_rows(run)
    return choose(run.request.index, rows, run.request.encoder.dim, warn=False), rows  # the plan stage warns


def files_of(run: Run, stage: Literal["sample", "route"]) -> list[FileReference]:
    """Returns the list file of every block that a stage wrote."""
    return [marker.lists for marker in run.markers(stage, range(inventory.blocks(run)), ListsMarker)]


def upload_tensors(run: Run, stem: str, tensors: Tensors) -> FileReference:
    """Writes tensors to a file of the run; equal ones have equal names."""
    return whole_files.write_tensors(run.store, layout.training_folder(run.generation), stem, tensors)


def read_tensors(run: Run, stage: Stage, task: int = 0) -> Tensors:
    """Reads what a task of a stage that is done has written.

    Raises:
        PixdexError: the file is missing, or is another than its marker speaks of.
    """
    (marker,) = run.markers(stage, [task], TensorsMarker)
    return load_tensors(run.store, marker.tensors)


def load_tensors(store: Store, file: FileReference) -> Tensors:
    """Reads a file of tensors.

    Raises:
        PixdexError: it is missing, or is another than the reference speaks of.
    """
    return whole_files.read_tensors(store, file)
