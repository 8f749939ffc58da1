"""Arrays that a task of a batch search makes and others need: a file in the work folder, and a marker of it."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.batch.request import Batch
from transforms.errors import PixdexError
from transforms.records import NEWEST_VERSION, FileReference
from transforms.storage.store import damaged


@dataclass(frozen=True)
class ArraysMarker:
    """Arrays are kept: of which task, and their file, a `.npz`."""

    digest: str
    file: FileReference
    format_version: int = NEWEST_VERSION


def kept(batch: Batch, name: str, digest: str) -> dict[str, NDArray[Any]] | None:
    """Returns the arrays of a name by their names; None: they are not there.

    Raises:
        PixdexError: they are damaged, or of another task.
    """
    marker = _marker(batch, name, digest)
    if marker is None:
        return None
    try:
        with np.load(io.BytesIO(batch.work.read(marker.file.path)), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(batch.work, marker.file.path, str(error)) from error


def is_kept(batch: Batch, name: str, digest: str) -> bool:
    """Tells whether arrays are there, which are not read.

    Raises:
        PixdexError: they are of another task.
    """
    return _marker(batch, name, digest) is not None


def keep(batch: Batch, name: str, digest: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keeps arrays under a name; whoever comes second leaves the first."""
    folder, _, stem = name.rpartition("/")
    with batch.work.scratch() as scratch:
        file = scratch / "arrays.npz"
        with zipfile.ZipFile(file, "x") as out:
            for part, array in arrays.items():
                with out.open(zipfile.ZipInfo(f"{part}.npy"), "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        reference = batch.work.upload(file, folder, stem)
    if not is_kept(batch, name, digest) and batch.work.exists(f"{name}.json"):
        batch.work.remove(f"{name}.json")  # its file is gone
    batch.work.commit(f"{name}.json", ArraysMarker(digest, reference))


def _marker(batch: Batch, name: str, digest: str) -> ArraysMarker | None:
    marker = batch.work.find_record(f"{name}.json", ArraysMarker)
    if marker is None or not batch.work.holds(marker.file):
        return None
    if marker.digest != digest:
        raise PixdexError(f"{batch.work.full(name)}.json is of another request: remove {batch.work.url}")
    return marker
