"""One ordinary faiss file from a trained index and merged ranges, written in place by many workers.

The file is what `faiss.write_index` makes of an index in memory (source: faiss/impl/index_write.cpp,
write_InvertedLists of ArrayInvertedLists): the trained index up to its inverted lists, with `ntotal` set; then

    `ilar`, u64 nlist, u64 code_size
    `full`, u64 nlist, u64 size of every list              when more than nlist // 2 lists have entries, else
    `sprs`, u64 2k, (u64 list, u64 size) of these k lists
    bodies                                                 list by list: codes, then int64 ids

so the bodies of an `.ivf` file fit byte by byte. Only `describe_trained` needs faiss, once, when the index is trained;
a merge needs the bytes of the trained `index.faiss`, and a worker that writes a range not even these.
"""

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.index.lists.format import ID_BYTES

if TYPE_CHECKING:
    import faiss

_LISTS: Final = struct.Struct("<4sQQ4sQ")
_COPY_BYTES: Final = 1 << 20
# As ntotal of an index that is only written, never searched: a value no header field has by itself.
_SENTINEL: Final = 0x5A17_1DE5_C0DE_0FF5


@dataclass(frozen=True)
class TrainedLayout:
    """Where things stand in a trained `index.faiss`; kept in training.json.

    `head_bytes` is the length up to the inverted lists, `ntotal_offsets` the positions of the u64 vector counts (the
    index's own and, behind a vector transform, the inner one's).
    """

    head_bytes: int
    ntotal_offsets: tuple[int, ...]
    nlist: int
    code_size: int


def describe_trained(index: "faiss.Index") -> TrainedLayout:
    """Finds the layout of a trained, empty index, as `faiss.write_index` writes it: any IVF with plain array lists.

    The index is written once, to nowhere, with a sentinel as `ntotal`. Raises PixdexError for indexes with vectors,
    and for those whose file does not end in plain lists (FastScan, IVFPQR, …): they cannot be merged by ranges.
    """
    import faiss  # noqa: PLC0415  # merge workers use this module without faiss

    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None or index.ntotal or ivf.ntotal:
        raise PixdexError(f"{type(index).__name__} with {index.ntotal} vectors is no empty IVF index: train one")
    counted = _counted(index)
    sentinel, offsets, length, tail = _SENTINEL.to_bytes(8, "little"), [], 0, b""

    def receive(part: bytes) -> int:
        # faiss writes a field at a time, so a sentinel is never cut in two.
        nonlocal length, tail
        place = part.find(sentinel)
        while place >= 0:
            offsets.append(length + place)
            place = part.find(sentinel, place + 1)
        length, tail = length + len(part), (tail + part)[-_LISTS.size :]
        return len(part)

    try:
        for level in counted:
            level.ntotal = _SENTINEL
        writer = faiss.PyCallbackIOWriter(receive)
        faiss.write_index(index, writer)
    finally:
        for level in counted:
            level.ntotal = 0
    layout = TrainedLayout(length - _LISTS.size, tuple(offsets), int(ivf.nlist), int(ivf.code_size))
    if len(offsets) != len(counted) or tail != _empty_lists(layout):
        kind = type(faiss.downcast_index(ivf)).__name__
        raise PixdexError(f"{kind} does not end in plain inverted lists: take IVF with Flat, SQ, PQ or RaBitQ")
    return layout


def body_offset(layout: TrainedLayout, sizes: NDArray[np.int64], list_no: int = 0) -> int:
    """Where the body of list `list_no` starts in the merged file; of list `nlist`: the length of the file.

    `sizes` int64 (nlist,): entries of every merged list.
    """
    entries = int(sizes[:list_no].sum())
    return layout.head_bytes + len(_lists_header(layout, sizes)) + entries * (layout.code_size + ID_BYTES)


def head(trained: bytes, layout: TrainedLayout, sizes: NDArray[np.int64]) -> bytes:
    """Everything before the bodies, for small trained indexes; `write_head` says the rest."""
    out = io.BytesIO()
    write_head(io.BytesIO(trained), out, layout, sizes)
    return out.getvalue()


def write_head(trained: BinaryIO, out: BinaryIO, layout: TrainedLayout, sizes: NDArray[np.int64]) -> int:
    """Writes everything before the bodies, from the trained `index.faiss` open at its start; returns its length.

    `sizes` int64 (nlist,): entries of every merged list. Copies 1 MiB at a time, as a quantizer may take gigabytes.
    Raises PixdexError where the trained file is not the one that `layout` describes.
    """
    header = _lists_header(layout, sizes)
    total = int(sizes.sum()).to_bytes(8, "little")
    position = 0
    for offset in sorted(layout.ntotal_offsets):
        _copy(trained, out, offset - position)
        if trained.read(8) != bytes(8):
            raise PixdexError(f"trained index.faiss counts vectors at byte {offset} or is another file: restore it")
        out.write(total)
        position = offset + 8
    _copy(trained, out, layout.head_bytes - position)
    if trained.read(_LISTS.size + 1) != _empty_lists(layout):
        raise PixdexError(
            f"trained index.faiss has no {layout.nlist} empty lists at its end: restore it, or train again"
        )
    out.write(header)
    return layout.head_bytes + len(header)


def write_head_of(index: "faiss.Index", out: BinaryIO, sizes: NDArray[np.int64]) -> int:
    """Writes everything before the bodies, of a trained, empty index as it is in memory; returns its length.

    That is the same whatever the sizes, which all stand in it: bodies can be written behind a head of sizes that are
    not known yet, and the head again when they are.

    Raises:
        PixdexError: the index has vectors, or its file does not end in plain lists (`describe_trained`).
    """
    layout = describe_trained(index)
    counted = _counted(index)
    held, length = b"", 0

    def receive(part: bytes) -> int:
        nonlocal held, length
        data = held + part
        held = data[-_LISTS.size :]
        length += out.write(data[: len(data) - len(held)])
        return len(part)

    import faiss  # noqa: PLC0415  # merge workers use this module without faiss

    try:
        for level in counted:
            level.ntotal = int(sizes.sum())
        faiss.write_index(index, faiss.PyCallbackIOWriter(receive))
    finally:
        for level in counted:
            level.ntotal = 0
    table = sizes.astype("<u8").tobytes()
    return length + out.write(_LISTS.pack(b"ilar", layout.nlist, layout.code_size, b"full", len(sizes)) + table)


def flat_head(dim: int, metric: int, rows: int) -> bytes:
    """Returns what stands before the vectors in the file of an `IndexFlat`: float32, row by row, are the rest of it.

    Args:
        dim: components of a vector.
        metric: as faiss numbers them.
        rows: vectors that follow.
    """
    import faiss  # noqa: PLC0415  # merge workers use this module without faiss

    index = faiss.IndexFlat(dim, metric)
    index.ntotal = rows
    data: bytes = faiss.serialize_index(index).tobytes()
    if data[-8:] != bytes(8):
        raise PixdexError(f"faiss {faiss.__version__} writes IndexFlat in a way that is not known here: use another")
    return data[:-8] + (rows * dim).to_bytes(8, "little")


def _counted(index: "faiss.Index") -> "list[faiss.Index]":
    """The parts of an index that say how many vectors it has."""
    import faiss  # noqa: PLC0415  # merge workers use this module without faiss

    ivf = faiss.try_extract_index_ivf(index)
    return [index, ivf] if isinstance(index, faiss.IndexPreTransform) else [index]


def _copy(source: BinaryIO, out: BinaryIO, length: int) -> None:
    while length:
        part = source.read(min(length, _COPY_BYTES))
        if not part:
            raise PixdexError(f"trained index.faiss ends {length} bytes early: restore it, or run 'pixdex train' again")
        out.write(part)
        length -= len(part)


def _empty_lists(layout: TrainedLayout) -> bytes:
    return _LISTS.pack(b"ilar", layout.nlist, layout.code_size, b"sprs", 0)


def _lists_header(layout: TrainedLayout, sizes: NDArray[np.int64]) -> bytes:
    if sizes.shape != (layout.nlist,):
        raise ValueError(f"sizes {sizes.shape} for {layout.nlist} lists")
    occupied = np.flatnonzero(sizes)
    if len(occupied) > layout.nlist // 2:
        kind, table = b"full", sizes
    else:
        kind, table = b"sprs", np.stack([occupied, sizes[occupied]], axis=1).reshape(-1)
    return _LISTS.pack(b"ilar", layout.nlist, layout.code_size, kind, len(table)) + table.astype("<u8").tobytes()
