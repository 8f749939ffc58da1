"""Opens the merged index of a generation for searching: mapped, not read, unless it is to be scanned fast."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from transforms.errors import PixdexError, UsageError
from transforms.generations import SEGMENTS
from transforms.index_cache import materialise
from transforms.records import Generation
from transforms.store import Store, missing


def open_index(store: Store, generation: Generation, *, fast_scan: bool = False) -> Any:  # faiss is untyped
    """Opens the merged index; of one that lies on an object store, a local copy that is made once (`index_cache`).

    Args:
        store: the root.
        generation: which index.
        fast_scan: scan with SIMD tables, several times faster and with slightly rounded distances. The index is then
            read into memory, all of it, and converted, for FastScan lists cannot be mapped: 4-bit PQ and RaBitQ only.

    Raises:
        PixdexError: it is missing, damaged, or not the one that the generation names.
        UsageError: it cannot be scanned fast.
    """
    reference = generation.index
    if reference.checksum.startswith(SEGMENTS):
        index = _read(materialise(store, generation), mapped=not fast_scan)
    elif store.local is not None:
        index = _read(_local(store, generation), mapped=not fast_scan)
    else:  # a root that was copied from a folder
        index = faiss.deserialize_index(np.frombuffer(store.read(reference.path), np.uint8))
    if index.ntotal != generation.totals.vectors:
        raise PixdexError(
            f"{store.full(reference.path)} holds {index.ntotal} vectors, generation {generation.generation} names "
            f"{generation.totals.vectors}: restore it from a backup, or build into a new root"
        )
    return _fast(index, generation.trained.key) if fast_scan else index


def _read(file: Path, *, mapped: bool) -> Any:
    try:
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP if mapped else 0)
    except RuntimeError as error:
        raise PixdexError(f"{file} is not a readable faiss index ({_last_line(error)}): restore it") from error


def _local(store: Store, generation: Generation) -> Path:
    file, size = store.local_path(generation.index.path), generation.index.bytes
    if not file.is_file():
        raise missing(store, generation.index.path)
    if (found := file.stat().st_size) != size:
        raise PixdexError(
            f"{file} has {found} bytes, generation {generation.generation} names {size}: "
            "restore it from a backup, or build into a new root"
        )
    return file


def _fast(index: Any, key: str) -> Any:
    """The same index with FastScan lists; frees the lists it had."""
    behind = index if isinstance(index, faiss.IndexPreTransform) else None
    plain = faiss.downcast_index(index.index if behind is not None else index)
    if isinstance(plain, faiss.IndexIVFPQ) and plain.pq.nbits == 4:
        fast = faiss.IndexIVFPQFastScan(plain)
    elif isinstance(plain, faiss.IndexIVFRaBitQ):
        fast = faiss.IndexIVFRaBitQFastScan(plain)
    else:
        raise UsageError(f"index {key} cannot be scanned fast: only 4-bit PQ (PQ32x4) and RaBitQ can; leave it mapped")
    # Who frees what rests on faiss 1.15.1: its FastScan constructors borrow the quantizer, copy the codes, and have
    # Python keep the plain index in `referenced_objects`. Here the quantizer goes over, and the rest of the plain index
    # is freed with its last name: an index of hundreds of GB must not be in memory twice.
    fast.own_fields, plain.own_fields = True, False
    del fast.referenced_objects
    if behind is None:
        return fast
    # C++ owns what is behind a transform: the plain index is given to Python to free, the fast one to C++.
    plain.this.own(True)
    fast.this.disown()
    behind.index = fast
    return behind


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]
