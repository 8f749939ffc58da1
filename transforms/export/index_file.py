"""Writes a generation as one ordinary faiss file: deltas merged in, dead rows out, dense numbers for ids.

Lists are read range by range from their files, every byte checked, and written one behind the other. Where codes are
the vectors themselves, and all in one list, the vectors of the shards are written instead: one list need not fit into
memory.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.export.destination import Tell
from transforms.export.numbering import Numbering
from transforms.export.origin import Origin
from transforms.export.rows import vectors_between
from transforms.generations import tables
from transforms.index.faiss_file import flat_head, write_head_of
from transforms.index.index_key import IndexKey
from transforms.index.lists.format import ID_BYTES, ListSizes
from transforms.index.lists.gather import gather
from transforms.index.lists.inputs import ListsReference, MergeInputs
from transforms.index.lists.merge import mergeable, plan_pieces
from transforms.index.lists.reader import ListFile
from transforms.index.open_trained import trained_index
from transforms.index.scan import graph_effort
from transforms.search.local_copies import segments_of

STEP_BYTES: Final = 16 << 20
"""Of lists that are read at once; they are held some six times while their entries are put in order."""


def write_index(origin: Origin, numberings: Sequence[Numbering], file: Path, tell: Tell) -> None:
    """Writes the rows of some numberings, by their numbers.

    Memory: centroids and codebooks (of a root in a folder centroids are mapped), and a step, or six times the longest
    list; of exact codes in one list, three batches of vectors.

    Args:
        origin: the generation.
        numberings: which rows, each row in one at most.
        file: is made.
        tell: is told of rows as they are written.

    Raises:
        PixdexError: a file of the root is missing or damaged, or its lists lack rows.
    """
    with file.open("wb") as out:
        if is_flat(origin, numberings):
            _write_flat(origin, numberings, out, tell)
        elif _is_one_exact_list(origin):
            _write_one_list(origin, numberings, out, tell)
        else:
            _write_lists(origin, numberings, out, tell)


def is_flat(origin: Origin, numberings: Sequence[Numbering]) -> bool:
    """Tells whether the file is an `IndexFlat`: of a root of the key `Flat`, where no number is left out."""
    ordered = sorted(numberings, key=lambda one: one.first)
    are_dense = [one.first for one in ordered] == [0, *(one.stop for one in ordered[:-1])]
    return _is_one_exact_list(origin) and are_dense


def index_key(origin: Origin, numberings: Sequence[Numbering]) -> str:
    """Returns what faiss's factory calls an index of the kind that is written."""
    return "Flat" if is_flat(origin, numberings) else origin.generation.trained.key


def nprobe_of(origin: Origin) -> int:
    """Returns how many lists a search probes by default: as was tuned for the queries that go furthest, or trained."""
    generation = origin.generation
    settings = () if generation.tuned is None else generation.tuned.settings
    return min(generation.trained.nlist, max((one.nprobe for one in settings), default=generation.trained.nprobe))


def _is_one_exact_list(origin: Origin) -> bool:
    key = IndexKey.parse(origin.generation.trained.key)
    return (key.nlist, key.storage, key.transforms) == (1, "Flat", ())


def _write_flat(origin: Origin, numberings: Sequence[Numbering], out: BinaryIO, tell: Tell) -> None:
    trained = trained_index(origin.store, origin.generation.trained)
    out.write(flat_head(origin.dim, trained.metric_type, sum(one.count for one in numberings)))
    for vectors in _all_vectors(origin, numberings):
        out.write(np.ascontiguousarray(vectors, "<f4").data)
        tell(len(vectors))


def _write_one_list(origin: Origin, numberings: Sequence[Numbering], out: BinaryIO, tell: Tell) -> None:
    write_head_of(_searchable(origin), out, np.array([sum(one.count for one in numberings)], np.int64))
    for vectors in _all_vectors(origin, numberings):
        out.write(np.ascontiguousarray(vectors, "<f4").data)
        tell(len(vectors))
    for one in sorted(numberings, key=lambda one: one.first):
        for start in range(one.first, one.stop, STEP_BYTES // ID_BYTES):
            out.write(np.arange(start, min(one.stop, start + STEP_BYTES // ID_BYTES), dtype="<i8").data)


def _all_vectors(origin: Origin, numberings: Sequence[Numbering]) -> Iterator[NDArray[np.float32]]:
    """Vectors in the order of their numbers."""
    for one in sorted(numberings, key=lambda one: one.first):
        for rows in vectors_between(origin, one, one.first, one.stop):
            assert rows.vectors is not None
            yield rows.vectors


def _write_lists(origin: Origin, numberings: Sequence[Numbering], out: BinaryIO, tell: Tell) -> None:
    index, trained = _searchable(origin), origin.generation.trained
    sizes = np.zeros(trained.nlist, np.int64)
    write_head_of(index, out, sizes)
    for stored, chunks in _renumbered(origin, numberings):
        sizes[stored.list_nos] += stored.sizes
        for chunk in chunks:
            out.write(chunk)
        tell(stored.rows)
    wanted = sum(one.count for one in numberings)
    if int(sizes.sum()) != wanted:
        raise PixdexError(
            f"{origin.store.url}: its lists hold {int(sizes.sum())} of the {wanted} rows that generation "
            f"{origin.generation.generation} has: pixdex verify says what is damaged"
        )
    out.seek(0)
    write_head_of(index, out, sizes)


def _renumbered(origin: Origin, numberings: Sequence[Numbering]) -> Iterator[tuple[ListSizes, Iterator[memoryview]]]:
    """Yields lists in order, with their entries that have a number, in the order of these."""
    trained = origin.generation.trained
    references = _list_files(origin)
    if not references:
        return
    with contextlib.closing(MergeInputs(origin.store, references)) as inputs:
        files = mergeable(inputs.over(range(trained.nlist)), trained.fingerprint)
        for lists in plan_pieces(files, STEP_BYTES):
            list_nos, codes, ids = _read(inputs.over(lists), lists)
            numbers = functools.reduce(np.maximum, [one.numbers(ids) for one in numberings])
            kept = np.flatnonzero(numbers >= 0)
            kept = kept[np.lexsort((numbers[kept], list_nos[kept]))]
            yield _in_layout(list_nos[kept], codes[kept], numbers[kept])


def _list_files(origin: Origin) -> list[ListsReference]:
    """The files that together hold each entry once: segments of the merged index where it has any, else shard indexes.

    Beside segments, only the deltas.
    """
    rows = [row for row in tables.block_rows(origin.store, origin.generation) if row["path"] and row["rows"]]
    if origin.generation.is_segmented:
        rows = [row for row in rows if row.get("merged") is False]
    every = range(origin.generation.trained.nlist)
    files = [ListsReference(every, tables.file_of(row)) for row in rows]
    return [*(segments_of(origin.store, origin.generation) if origin.generation.is_segmented else ()), *files]


def _read(files: Sequence[ListFile], lists: range) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    parts = [file.read(lists).unpack() for file in files]
    list_nos, codes, ids = (np.concatenate(each) for each in zip(*parts, strict=True))
    return list_nos, codes, ids


def _in_layout(
    list_nos: NDArray[np.int64], codes: NDArray[np.uint8], numbers: NDArray[np.int64]
) -> tuple[ListSizes, Iterator[memoryview]]:
    """Entries in the order of their lists as they stand in a file: of each list its codes, then its numbers."""
    occupied, sizes = np.unique(list_nos, return_counts=True)
    starts = np.append(0, np.cumsum(sizes))
    buffer = np.concatenate([codes.reshape(-1), numbers.astype("<i8", copy=False).view(np.uint8)])
    bounds = np.concatenate([starts * codes.shape[1], codes.size + starts[1:] * ID_BYTES])
    order = np.arange(2 * len(sizes)).reshape(2, -1).T.reshape(-1)
    return ListSizes(occupied, sizes), gather(buffer, bounds, order)


def _searchable(origin: Origin) -> Any:  # faiss is untyped
    """The trained index, which says how a search goes that does not say."""
    index, nprobe = trained_index(origin.store, origin.generation.trained), nprobe_of(origin)
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    inner.nprobe = nprobe
    quantizer: Any = faiss.downcast_index(inner.quantizer)
    if isinstance(quantizer, faiss.IndexHNSW):
        quantizer.hnsw.efSearch = graph_effort(nprobe)
    return index
