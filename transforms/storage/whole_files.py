"""Small files of a root that are read whole: what is read is what its reference speaks of, or nothing is."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.records import FileReference
from transforms.storage.store import Store, damaged


def read(store: Store, file: FileReference) -> bytes:
    """Returns the content of a file.

    Raises:
        PixdexError: it is missing, or is not the one that the reference speaks of.
    """
    data = store.read(file.path)
    if len(data) != file.bytes:
        raise damaged(store, file.path, f"it has {len(data)} bytes instead of {file.bytes}")
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != file.checksum:
        raise damaged(store, file.path, "it does not match its checksum")
    return data


def read_tensors(store: Store, file: FileReference) -> dict[str, NDArray[Any]]:
    """Returns the tensors of a safetensors file by their names.

    Raises:
        PixdexError: it is missing, is not the one that the reference speaks of, or holds something else.
    """
    import safetensors.numpy  # noqa: PLC0415 - most commands read no tensors
    from safetensors import SafetensorError  # noqa: PLC0415 - as above

    data = read(store, file)
    try:
        tensors: dict[str, NDArray[Any]] = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise damaged(store, file.path, f"it holds no tensors ({error})") from error
    return tensors


def write_tensors(store: Store, folder: str, stem: str, tensors: Mapping[str, NDArray[Any]]) -> FileReference:
    """Writes a safetensors file into a folder of a root; equal tensors have one name."""
    import safetensors.numpy  # noqa: PLC0415 - most commands write no tensors

    with store.scratch() as scratch:
        file = scratch / "tensors.safetensors"
        safetensors.numpy.save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, file)
        return store.upload(file, folder, stem)
