"""Deltas: shard indexes added after the last merge, opened as one index that a search scans beside the merged one.

The bodies of an `.ivf` file lie as faiss wants lists on disk to lie, so that they are mapped. The lists of several
deltas are copied into one set of lists in memory while that is small, and are joined by a stack otherwise, which copies
those that are probed. In return there is one scan of all deltas, with one set of tables for a query.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from transforms.errors import PixdexError
from transforms.generations import tables
from transforms.generations.manifest import Generation
from transforms.index.lists.format import HEAD, segment_starts
from transforms.index.lists.opened import seal_of
from transforms.index.lists.reader import ListFile
from transforms.markers import TrainedIndex
from transforms.records import FileReference
from transforms.search.local_copies import cached_lists
from transforms.storage.store import Store, missing

_MOST_COPIED_BYTES = 16 << 20
"""Lists of several deltas are copied up to this size, in some 40 ms: a batch scans them in two thirds of the time."""

_LIST_BYTES, _GROWN = 160, 1.5
"""What an empty list takes in memory (measured, faiss 1.15.1), and how much more than its entries one that grew."""

_MOST_TABLE_BYTES = 64 << 20
"""The table that faiss makes of centroids and codebooks for L2 is copied up to this size, and done without above."""


def delta_files(store: Store, generation: Generation) -> list[FileReference]:
    """Returns the shard indexes of a generation that are not in its merged index."""
    rows = tables.block_rows(store, generation)  # of before there were deltas, they do not say what is merged
    return [tables.file_of(row) for row in rows if row.get("merged") is False and row["rows"]]


def open_deltas(store: Store, generation: Generation, merged: Any) -> Any | None:  # faiss is untyped
    """Opens the deltas of a generation as one index over their lists; None when there are none.

    Every byte is read and checked, so that a search meets no damage; then they are mapped. Of an object store, local
    copies (`local_copies`).

    Args:
        store: the root.
        generation: whose deltas.
        merged: its merged index, maybe behind vector transforms. The quantizer is shared: the index that is returned
            keeps it alive, and takes vectors that are behind the transforms.

    Raises:
        PixdexError: a delta is missing, damaged, or of another trained index.
    """
    files = delta_files(store, generation)
    if not files:
        return None
    lists = [_mapped(store, generation, file) for file in files]
    joined, mapped = lists[0] if len(lists) == 1 else _joined(lists), lists
    copied_bytes = joined.nlist * _LIST_BYTES + _GROWN * joined.compute_ntotal() * (joined.code_size + 8)
    if len(lists) > 1 and copied_bytes <= _MOST_COPIED_BYTES:
        joined, mapped = _copied(joined), []
    index = without_lists(merged)
    index.replace_invlists(joined, True)  # an index that does not own its lists cannot be converted for fast scans
    joined.this.disown()
    index.ntotal = joined.compute_ntotal()
    index.referenced_objects = [merged, *mapped]
    return index


def without_lists(index: Any) -> Any:
    """Returns a copy of an IVF index with its codebooks and no lists; the quantizer is the same, and not the copy's.

    No one else may use the index meanwhile. Between two lines it has neither quantizer nor lists: with them, writing it
    would take their memory again.
    """
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    quantizer, lists = inner.quantizer, inner.invlists
    empty, none = faiss.IndexFlat(inner.d, inner.metric_type), faiss.ArrayInvertedLists(inner.nlist, inner.code_size)
    total = inner.ntotal
    inner.quantizer, inner.invlists, inner.ntotal = empty, none, 0
    try:
        data = faiss.serialize_index(inner)
    finally:
        inner.quantizer, inner.invlists, inner.ntotal = quantizer, lists, total
    copy = faiss.deserialize_index(data, faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)
    copy.quantizer.this.own(True)  # Python frees the empty one
    copy.quantizer, copy.own_fields = quantizer, False
    if isinstance(inner, faiss.IndexIVFPQ) and 0 < inner.precomputed_table.nbytes() <= _MOST_TABLE_BYTES:
        copy.precomputed_table.resize(inner.precomputed_table.size())
        faiss.memcpy(copy.precomputed_table.get(), inner.precomputed_table.get(), inner.precomputed_table.nbytes())
        copy.use_precomputed_table = inner.use_precomputed_table
    return copy


def _joined(lists: list[Any]) -> Any:
    parts = faiss.InvertedListsPtrVector()
    for part in lists:
        parts.push_back(part)
    return faiss.HStackInvertedLists(parts.size(), parts.data())


def _copied(lists: Any) -> Any:
    copy = faiss.ArrayInvertedLists(lists.nlist, lists.code_size)
    lists.copy_subset_to(copy, faiss.InvertedLists.SUBSET_TYPE_ID_RANGE, 0, np.iinfo(np.int64).max)
    return copy


def _mapped(store: Store, generation: Generation, file: FileReference) -> Any:
    path, (list_nos, sizes, code_size) = _whole(store, generation, file)
    lists = faiss.OnDiskInvertedLists(generation.trained.nlist, code_size, str(path))
    # Size, capacity and offset of each list: one array, for a loop over a million lists takes seconds.
    address = faiss.cast_integer_to_idx_t_ptr(int(lists.lists.data().this))
    table = faiss.rev_swig_ptr(address, 3 * generation.trained.nlist).reshape(-1, 3)
    table[list_nos, 0] = table[list_nos, 1] = sizes
    table[list_nos, 2] = len(HEAD) + segment_starts(sizes, code_size)[::2]
    lists.totsize, lists.read_only = file.bytes, True
    try:
        lists.do_mmap()
    except RuntimeError as error:
        raise PixdexError(f"{path} cannot be mapped ({str(error).strip().splitlines()[-1]}): restore it") from error
    return lists


def _whole(store: Store, generation: Generation, file: FileReference) -> Any:
    """Returns the path of a list file, and what `_checked` does; a local copy that is damaged is made again."""
    if store.local is not None:
        path = store.local_path(file.path)
        return path, _checked(store, path, file, generation.trained)
    path = cached_lists(store, generation, file)
    try:
        return path, _checked(store, path, file, generation.trained)
    except PixdexError:
        path.unlink(missing_ok=True)
        path = cached_lists(store, generation, file)
        return path, _checked(store, path, file, generation.trained)


def _checked(store: Store, path: Path, file: FileReference, trained: TrainedIndex) -> Any:
    """Reads all of a list file; returns its lists that are not empty, their sizes, and the code size."""
    try:
        stream = path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise missing(store, file.path) from error
    with stream:
        opened = ListFile(stream, str(path), seal_of(file))
        opened.verify()
        stored = opened.sizes()
    built_with = (opened.fingerprint, opened.nlist, opened.code_size)
    if built_with != (trained.fingerprint, trained.nlist, trained.code_size):
        raise PixdexError(
            f"{path} was made with trained index {opened.fingerprint}, of {opened.nlist} lists and {opened.code_size} "
            f"bytes a code; the generation uses {trained.fingerprint}: restore it from a backup"
        )
    return stored.list_nos, stored.sizes, opened.code_size
