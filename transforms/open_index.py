"""Opens the merged index of a generation for searching; a local one is mapped, not read."""

from typing import Any

import faiss
import numpy as np

from transforms.errors import PixdexError
from transforms.records import Generation
from transforms.store import Store, missing


def open_index(store: Store, generation: Generation) -> Any:  # faiss is untyped
    """Opens the merged index.

    Raises:
        PixdexError: it is missing, damaged, or not the one that the generation names.
    """
    reference = generation.index
    if store.local is None:
        index = faiss.deserialize_index(np.frombuffer(store.read(reference.path), np.uint8))
    else:
        file = store.local_path(reference.path)
        if not file.is_file():
            raise missing(store, reference.path)
        if (size := file.stat().st_size) != reference.bytes:
            raise PixdexError(
                f"{file} has {size} bytes, generation {generation.generation} names {reference.bytes}: "
                "restore it from a backup, or build into a new root"
            )
        try:
            index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise PixdexError(f"{file} is not a readable faiss index ({_last_line(error)}): restore it") from error
    if index.ntotal != generation.totals.vectors:
        raise PixdexError(
            f"{store.full(reference.path)} holds {index.ntotal} vectors, generation {generation.generation} names "
            f"{generation.totals.vectors}: restore it from a backup, or build into a new root"
        )
    return index


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]
