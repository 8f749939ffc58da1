"""Opens the indexes of a generation for searching: mapped, not read, unless they are to be scanned fast."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError, UsageError
from transforms.generations import merged_index
from transforms.generations.manifest import Generation
from transforms.generations.merged_index import FileRange
from transforms.index import faiss_reader
from transforms.index.adaptive import spread
from transforms.index.adaptive.spread import Spread
from transforms.index.scan import Adaptive, probed, search_lists
from transforms.index.wanted_lists import WantedLists, wanted_lists
from transforms.search.deltas import open_deltas
from transforms.search.local_copies import materialise
from transforms.search.ranking import Reach
from transforms.storage.store import Store, missing


@dataclass(frozen=True)
class OpenIndex:
    """What a search scans.

    Attributes:
        merged: the merged index.
        deltas: an IVF index of what was added since, which shares the quantizer of the merged one and takes vectors
            behind its transforms; None: nothing was added.
        spread: of the rows of its lists; None: no query stops before it has probed as many lists as it may.
    """

    merged: Any  # faiss is untyped
    deltas: Any = None
    spread: Spread | None = None

    @property
    def scanned(self) -> list[Any]:
        """The IVF indexes whose lists are scanned."""
        merged = faiss.downcast_index(faiss.extract_index_ivf(self.merged))
        return [merged] if self.deltas is None else [merged, self.deltas]

    @property
    def ntotal(self) -> int:
        """Codes that are scanned, dead ones too."""
        return int(self.merged.ntotal) + (int(self.deltas.ntotal) if self.deltas is not None else 0)

    def scan(
        self, queries: NDArray[np.float32], reach: Reach, allowed: NDArray[np.uint8] | None, among: WantedLists | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scans the lists nearest to queries; what it takes and returns is said at `search_lists`."""
        return search_lists(
            self.merged,
            queries,
            reach.rows,
            reach.nprobe,
            allowed,
            self.deltas,
            among,
            by_id=reach.by_id,
            adaptive=self._adaptive(reach),
        )

    def probed(self, queries: NDArray[np.float32], reach: Reach, among: WantedLists | None) -> tuple[int, int]:
        """Returns how many lists that scans, and codes in them, of all queries together."""
        return probed(self.merged, queries, reach.nprobe, self.deltas, among, self._adaptive(reach))

    def _adaptive(self, reach: Reach) -> Adaptive | None:
        return None if reach.stop is None or self.spread is None else Adaptive(self.spread, reach.stop)

    def wanted(self, allowed: NDArray[np.uint8]) -> WantedLists:
        """Returns the lists that hold rows that are allowed."""
        return wanted_lists(self.scanned, allowed)


def open_index(store: Store, generation: Generation, *, fast_scan: bool = False, check: bool = False) -> OpenIndex:
    """Opens merged index and deltas; of those that lie on an object store, local copies, made once (`local_copies`).

    The head of the merged index (centroids, codebooks, transforms, how long each list is) is held against its checksum
    before faiss sees it, and so is every byte of the deltas. Its lists are only mapped, unless they are checked, too.

    Cost: some milliseconds, and the head is read once more than faiss reads it, in about a quarter of the time that
    faiss takes: 0.13 s for one of 256 MiB.

    Args:
        store: the root.
        generation: which index.
        fast_scan: scan with SIMD tables, several times faster and with slightly rounded distances. The index is then
            read into memory, all of it, and converted, for FastScan lists cannot be mapped: 4-bit PQ and RaBitQ only.
        check: read all lists first, and hold them against their checksums.

    Raises:
        PixdexError: a file is missing, damaged, or not the one that the generation names.
        UsageError: it cannot be scanned fast.
    """
    reference, totals = generation.index, generation.totals
    if generation.is_segmented:
        merged = read(materialise(store, generation, check=check), mapped=not fast_scan)
    elif store.local is not None:
        merged = read(_local(store, generation, check=check), mapped=not fast_scan)
    else:  # a root that was copied from a folder
        merged = _in_memory(store, generation)
    check_shape(store.full(reference.path), merged, generation)
    index = OpenIndex(merged, open_deltas(store, generation, merged), open_spread(store, generation, merged))
    if index.ntotal != totals.vectors + totals.tombstones:
        raise PixdexError(
            f"{store.full(reference.path)} holds {merged.ntotal} vectors and the deltas "
            f"{index.ntotal - merged.ntotal}, generation {generation.generation} names {totals.vectors} and "
            f"{totals.tombstones} dead ones: restore it from a backup, or build into a new root"
        )
    if fast_scan:
        index = _fast(index, generation.trained.key)
    return index


def open_spread(store: Store, generation: Generation, merged: Any) -> Spread | None:
    """Reads the spread of the lists, where `pixdex tune` made one of them.

    Raises:
        PixdexError: it is missing or damaged.
    """
    tuned = generation.tuned
    if tuned is None or tuned.spread is None:
        return None
    inner = faiss.extract_index_ivf(merged)
    return spread.load(store, tuned.spread, inner.nlist, inner.d)


def read(file: Path, *, mapped: bool) -> Any:
    """Reads a local file with faiss; `mapped`, its lists are not read until they are probed.

    Raises:
        PixdexError: it is no index.
    """
    try:
        return faiss_reader.read(file, faiss.IO_FLAG_MMAP if mapped else 0)
    except RuntimeError as error:
        raise PixdexError(f"{file} is not a readable faiss index ({_last_line(error)}): restore it") from error


def _local(store: Store, generation: Generation, *, check: bool) -> Path:
    file, size = store.local_path(generation.index.path), generation.index.bytes
    if not file.is_file():
        raise missing(store, generation.index.path)
    if (actual_size := file.stat().st_size) != size:
        raise PixdexError(
            f"{file} has {actual_size} bytes, generation {generation.generation} names {size}: "
            "restore it from a backup, or build into a new root"
        )
    listed = merged_index.ranges(store, generation)
    _refuse(str(file), merged_index.wrong_ranges(file, listed if check else listed[:1]))
    return file


def _in_memory(store: Store, generation: Generation) -> Any:
    """Reads a merged file of an object store, which is checked as it comes: that costs little beside reading it."""
    name, listed = store.full(generation.index.path), merged_index.ranges(store, generation)
    data = store.read(generation.index.path)
    stream = io.BytesIO(data)
    checksums = (merged_index.checksum_of(stream, part.offset, part.bytes) for part in listed)
    _refuse(name, (part for part, checksum in zip(listed, checksums, strict=True) if part.checksum != checksum))
    try:
        return faiss_reader.from_bytes(data, name)
    except RuntimeError as error:
        raise PixdexError(f"{name} is not a readable faiss index ({_last_line(error)}): restore it") from error


def _refuse(name: str, wrong: Iterable[FileRange]) -> None:
    for part in wrong:
        raise PixdexError(
            f"{name} is damaged, {part}, do not match their checksum: make it anew from the stored embeddings with "
            "pixdex reindex --retrain always, or restore it from a backup"
        )


def check_shape(name: str, merged: Any, generation: Generation) -> None:
    """Checks that an index is one of its trained index: vectors of another length would be read beyond their end.

    Raises:
        PixdexError: it is not.
    """
    inner, trained = faiss.extract_index_ivf(merged), generation.trained
    has = (int(merged.d), int(inner.nlist), int(inner.code_size))
    wanted = (trained.dim, trained.nlist, trained.code_size)
    if has != wanted:
        raise PixdexError(
            f"{name} has (dim, lists, bytes a code) {has}, generation {generation.generation} names {wanted}: "
            "restore it from a backup, or build into a new root"
        )


def _fast(index: OpenIndex, key: str) -> OpenIndex:
    """The same with FastScan lists; frees the lists there were."""
    deltas = None if index.deltas is None else _converted(index.deltas, key)
    merged = _fast_merged(index.merged, key)
    if deltas is not None:
        # The quantizer is borrowed, and belongs to the merged index; the lists are copied.
        deltas.referenced_objects = [merged]
    return OpenIndex(merged, deltas, index.spread)


def _converted(plain: Any, key: str) -> Any:
    """A FastScan index with the quantizer of an IVF index and copies of its lists."""
    if isinstance(plain, faiss.IndexIVFPQ) and plain.pq.nbits == 4:
        return faiss.IndexIVFPQFastScan(plain)
    if isinstance(plain, faiss.IndexIVFRaBitQ):
        return faiss.IndexIVFRaBitQFastScan(plain)
    raise UsageError(f"index {key} cannot be scanned fast: only 4-bit PQ (PQ32x4) and RaBitQ can; leave it mapped")


def _fast_merged(index: Any, key: str) -> Any:
    behind = index if isinstance(index, faiss.IndexPreTransform) else None
    plain = faiss.downcast_index(index.index if behind is not None else index)
    fast = _converted(plain, key)
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
