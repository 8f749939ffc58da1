"""Arrays that a task makes and others need: a file in the folder of a job, and a marker of it."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.records import STORED_VERSION, FileReference
from transforms.storage.store import Store, damaged


@dataclass(frozen=True)
class ArraysMarker:
    """Arrays are kept: of which task, and their file, a `.npz`."""

    digest: str
    file: FileReference
    format_version: int = STORED_VERSION


def kept(work: Store, name: str, digest: str) -> dict[str, NDArray[Any]] | None:
    """Returns the arrays of a name by their names; None: they are not there.

    Raises:
        PixdexError: they are damaged, or of another task.
    """
    marker = _marker(work, name, digest)
    if marker is None:
        return None
    data = work.read(marker.file.path)
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != marker.file.checksum:
        raise damaged(work, marker.file.path, "it does not match its checksum")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def checksum_of(work: Store, name: str, digest: str) -> str | None:
    """Returns the checksum of the file of arrays, which are not read; None: they are not there.

    Raises:
        PixdexError: they are of another task.
    """
    marker = _marker(work, name, digest)
    return None if marker is None else marker.file.checksum


def is_kept(work: Store, name: str, digest: str) -> bool:
    """Tells whether arrays are there, which are not read.

    Raises:
        PixdexError: they are of another task.
    """
    return _marker(work, name, digest) is not None


def keep(work: Store, name: str, digest: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keeps arrays under a name; whoever comes second leaves the first."""
    folder, _, stem = name.rpartition("/")
    with work.scratch() as scratch:
        file = scratch / "arrays.npz"
        with zipfile.ZipFile(file, "x") as out:
            for part, array in arrays.items():
                with out.open(zipfile.ZipInfo(f"{part}.npy"), "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        reference = work.upload(file, folder, stem)
    if not is_kept(work, name, digest) and work.exists(f"{name}.json"):
        work.remove(f"{name}.json")  # its file is gone
    work.commit(f"{name}.json", ArraysMarker(digest, reference))


def _marker(work: Store, name: str, digest: str) -> ArraysMarker | None:
    marker = work.find_record(f"{name}.json", ArraysMarker)
    if marker is None or not work.holds(marker.file):
        return None
    if marker.digest != digest:
        raise PixdexError(f"{work.full(name)}.json is of another request: remove {work.url}")
    return marker
