"""The vectors of a block, row by row, where a search finds any of them by its id: the refine store.

A shard's parquet is made for reading all of it. Here a row is a range of bytes, whose place follows from its id, so
that few hundred rows of billions are read in as many reads. All numbers are little-endian, all checksums xxh3_64.

    head     16 bytes   magic `PIXROWS\\0`, u64 format version
    rows                shard by shard in the order of their numbers, and in each the rows in the order of their ids: of
                        `f16` the components as float16, of `f32` as float32, of `sq8` a byte each; a row that is in no
                        list is zero
    scales              of `sq8` only, for each group of 4,096 rows of a shard (the last of a shard has fewer): the
                        lowest value of each component, then the step of each, float32; value = lowest + step * byte
    footer   32 bytes   kind (8 bytes of ASCII, zero padded), u64 components, shards, groups
             16 each    i64 shard, i64 rows
             8 each     checksum of a group's rows, and of its scales behind them
    tail     40 bytes   u64 offset, length and checksum of the footer, u64 format version, magic `PIXROWS\\0`

The footer's checksum covers those of the groups: it, and the length, identify a file.
"""

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, BinaryIO, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_intdigest

from transforms.errors import PixdexError
from transforms.records import ROWS_PER_SHARD, FileReference, split_ids
from transforms.shards.byte_vectors import as_bytes
from transforms.storage.mapped import ask_ahead
from transforms.storage.store import Store, damaged, missing

Kind = Literal["f16", "f32", "sq8"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

FORMAT_VERSION: Final = 1
GROUP_ROWS: Final = 4096
"""Rows of a shard that share scales and a checksum; they are read, and added, together, too."""

_MAGIC: Final = b"PIXROWS\0"
_HEAD: Final = struct.pack("<8sQ", _MAGIC, FORMAT_VERSION)
_FOOTER: Final = struct.Struct("<8s3Q")
_SHARD: Final = np.dtype([("shard", "<i8"), ("rows", "<i8")])
_TAIL: Final = struct.Struct("<4Q8s")
_FIRST_READ: Final = 16 << 10
_LOOKED_AT_AGAIN: Final = 16
_LEAST_BYTES: Final = len(_HEAD) + _FOOTER.size + _TAIL.size
_DTYPES: Final[dict[Kind, str]] = {"f16": "<f2", "f32": "<f4", "sq8": "u1"}


@dataclass(frozen=True)
class Packed:
    """A group as it is stored: its rows in their type `(n, d)`, and of `sq8` its scales, float32 `(2, d)`."""

    rows: NDArray[np.generic]
    scales: NDArray[np.float32] | None


def pack(kind: Kind, vectors: NDArray[np.float32], places: NDArray[np.int64], rows: int) -> Packed:
    """Makes a group of vectors `(n, d)` that stand at `places` of its `rows` rows; the others are zero.

    Of `sq8` the scales are those of these very vectors, so that none lies outside; a value is off by less than a step,
    a 255th of what its component spans in the group (see `transforms.shards.byte_vectors`).
    """
    stored = np.zeros((rows, vectors.shape[1]), _DTYPES[kind])
    if kind != "sq8":
        stored[places] = vectors
        return Packed(stored, None)
    stored[places], scales = as_bytes(vectors)
    return Packed(stored, scales)


@dataclass(frozen=True)
class Extent:
    """How many rows a file has, shard by shard.

    Attributes:
        kind: how a component is stored.
        dim: components of a vector.
        shards, rows: int64 `(s,)` each, the shards in ascending order.
    """

    kind: Kind
    dim: int
    shards: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, kind: Kind, dim: int, counts: Sequence[tuple[int, int]]) -> "Extent":
        """Makes it of shards and their rows."""
        table = np.array(counts, np.int64).reshape(-1, 2)
        return cls(kind, dim, table[:, 0].copy(), table[:, 1].copy())

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """Which row of the file is the first of each shard, and how many there are: int64 `(s + 1,)`."""
        return np.concatenate(([0], np.cumsum(self.rows)))

    @cached_property
    def first_groups(self) -> NDArray[np.int64]:
        """Which group of the file is the first of each shard, and how many there are: int64 `(s + 1,)`."""
        return np.concatenate(([0], np.cumsum(-(-self.rows // GROUP_ROWS))))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dim * np.dtype(_DTYPES[self.kind]).itemsize

    @property
    def scale_bytes(self) -> int:
        """Bytes of the scales of a group."""
        return 8 * self.dim if self.kind == "sq8" else 0

    @property
    def scales_offset(self) -> int:
        """Where the scales begin."""
        return len(_HEAD) + int(self.first_rows[-1]) * self.row_bytes

    @property
    def footer_offset(self) -> int:
        """Where the footer begins."""
        return self.scales_offset + int(self.first_groups[-1]) * self.scale_bytes

    def groups(self) -> Iterator[tuple[int, int, int]]:
        """Yields shard, first row in it, and rows of every group in order."""
        for shard, rows in zip(self.shards.tolist(), self.rows.tolist(), strict=True):
            for first in range(0, rows, GROUP_ROWS):
                yield shard, first, min(GROUP_ROWS, rows - first)

    def places(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the row and the group of the file that each id has, int64 `(n,)` each; -1 where there is none."""
        shards, rows = split_ids(ids)
        at = np.minimum(np.searchsorted(self.shards, shards), max(len(self.shards) - 1, 0))
        if not len(self.shards):
            return np.full(len(ids), -1, np.int64), np.full(len(ids), -1, np.int64)
        held = (self.shards[at] == shards) & (rows < self.rows[at])
        return (
            np.where(held, self.first_rows[at] + rows, -1),
            np.where(held, self.first_groups[at] + rows // GROUP_ROWS, -1),
        )


class VectorWriter:
    """Writes a file front to back: the groups of `extent` in order, then `finish`; one left out is zero.

    Memory: the scales, 8 bytes a component for 4,096 rows.
    """

    def __init__(self, out: BinaryIO, extent: Extent) -> None:
        """Writes the head."""
        self._out, self._extent = out, extent
        self._groups = extent.groups()
        self._scales: list[NDArray[np.float32]] = []
        self._checksums: list[int] = []
        out.write(_HEAD)

    def append(self, shard: int, first: int, packed: Packed) -> None:
        """Writes the group of a shard that begins with its row `first`.

        Raises:
            ValueError: there is none, it has another number of rows, or it was written.
        """
        for group in self._groups:
            if group == (shard, first, len(packed.rows)):
                self._write(packed)
                return
            self._skip(group[2])
        raise ValueError(f"row {first} of shard {shard} begins no group of {len(packed.rows)} rows that is to come")

    def finish(self) -> tuple[int, str]:
        """Writes what is left; returns the length in bytes and the checksum, 16 hex digits."""
        for _, _, rows in self._groups:
            self._skip(rows)
        extent = self._extent
        for scales in self._scales:
            self._out.write(scales.tobytes())
        table = np.empty(len(extent.shards), _SHARD)
        table["shard"], table["rows"] = extent.shards, extent.rows
        head = _FOOTER.pack(extent.kind.encode(), extent.dim, len(extent.shards), len(self._checksums))
        footer = head + table.tobytes() + np.array(self._checksums, "<u8").tobytes()
        checksum = xxh3_64_intdigest(footer)
        self._out.write(footer + _TAIL.pack(extent.footer_offset, len(footer), checksum, FORMAT_VERSION, _MAGIC))
        return extent.footer_offset + len(footer) + _TAIL.size, f"{checksum:016x}"

    def _skip(self, rows: int) -> None:
        extent = self._extent
        self._write(pack(extent.kind, np.empty((0, extent.dim), np.float32), np.empty(0, np.int64), rows))

    def _write(self, packed: Packed) -> None:
        content = np.ascontiguousarray(packed.rows).data.cast("B")
        hasher = xxh3_64(content)
        self._out.write(content)
        if packed.scales is not None:
            scales = packed.scales.astype("<f4")
            hasher.update(scales.tobytes())
            self._scales.append(scales)
        self._checksums.append(hasher.intdigest())


class Ranges(Protocol):
    """What reading asks of a file: several ranges of bytes, each from one offset to another."""

    def __call__(self, ranges: Sequence[tuple[int, int]], /) -> list[bytes]:
        """Returns the content of each range; fewer bytes where the file ends before."""
        ...


class VectorFile:
    """Reads a file of vectors: its footer when it is opened, then any rows of it.

    `name` is for messages. Every defect that is seen raises PixdexError; rows are seen to be whole by `verify` only.
    """

    def __init__(self, read: Ranges, name: str, length: int, checksum: str, mapped: mmap.mmap | None = None) -> None:
        """Reads the tail and the footer; length and checksum are what the reference to the file says.

        `mapped` is the file, where it lies on this machine: its rows are then taken from there.
        """
        self.name, self._read, self._mapped = name, read, mapped
        self._reads_in_memory = 0
        if length < _LEAST_BYTES:
            raise self._damaged(f"it has only {length} bytes")
        (last,) = self._exactly([(max(0, length - _FIRST_READ), length)])
        offset, size, found, version, magic = _TAIL.unpack_from(last, len(last) - _TAIL.size)
        if magic != _MAGIC:
            raise self._damaged("it does not end like a file of vectors")
        if version > FORMAT_VERSION:
            raise PixdexError(f"{name} has format {version}, this pixdex reads {FORMAT_VERSION}: upgrade pixdex")
        if size < _FOOTER.size or offset + size + _TAIL.size != length or version < 1:
            raise self._damaged(f"its tail contradicts its length of {length} bytes")
        before = self._exactly([(offset, length - len(last))])[0] if offset < length - len(last) else b""
        footer = (before + last[: -_TAIL.size])[-size:]
        if xxh3_64_intdigest(footer) != found or f"{found:016x}" != checksum:
            raise self._damaged("its footer does not match its checksum")
        kind, dim, shards, groups = _FOOTER.unpack_from(footer)
        named = kind.rstrip(b"\0").decode("ascii", "replace")
        if size != _FOOTER.size + shards * _SHARD.itemsize + groups * 8 or named not in KINDS:
            raise self._damaged("its footer contradicts its length")
        table = np.frombuffer(footer, _SHARD, shards, _FOOTER.size)
        counts, self._checksums = table["rows"].astype(np.int64), footer[-8 * groups :] if groups else b""
        self.extent = Extent(named, dim, table["shard"].astype(np.int64), counts)
        bounded = ((counts >= 0) & (counts <= ROWS_PER_SHARD)).all() and (np.diff(self.extent.shards) > 0).all()
        if not (bounded and self.extent.footer_offset == offset and self.extent.first_groups[-1] == groups):
            raise self._damaged("its footer counts other rows than it has")

    def read(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Returns the vectors of ids, float32 `(n, d)`, and whether the file has each, bool `(n,)`; the others are 0.

        Of a file that is not mapped a range is read for each row, and of `sq8` for each group that has one of them.
        """
        extent = self.extent
        rows, groups = extent.places(ids)
        held = rows >= 0
        vectors = np.zeros((len(ids), extent.dim), np.float32)
        if self._mapped is not None:
            stored, scales = self._views
            self._ask_ahead(stored, rows[held])
            vectors[held] = unpack(stored[rows[held]], None if scales is None else scales[groups[held]])
            return vectors, held
        wanted, kinds = np.unique(rows[held]), np.unique(groups[held]) if extent.kind == "sq8" else np.empty(0, int)
        starts = [(len(_HEAD) + row * extent.row_bytes, extent.row_bytes) for row in wanted.tolist()]
        starts += [(extent.scales_offset + group * extent.scale_bytes, extent.scale_bytes) for group in kinds.tolist()]
        read = self._exactly([(start, start + size) for start, size in starts])
        stored = np.frombuffer(b"".join(read[: len(wanted)]), _DTYPES[extent.kind]).reshape(-1, extent.dim)
        scales = np.frombuffer(b"".join(read[len(wanted) :]), "<f4").reshape(-1, 2, extent.dim)
        at = np.searchsorted(wanted, rows[held])
        vectors[held] = unpack(stored[at], scales[np.searchsorted(kinds, groups[held])] if len(scales) else None)
        return vectors, held

    def _ask_ahead(self, stored: NDArray[Any], rows: NDArray[np.int64]) -> None:
        """Of a file that was in memory when it was last looked at, one read of 16 looks again: looking takes time."""
        if self._reads_in_memory % _LOOKED_AT_AGAIN == 0 and ask_ahead(stored, np.sort(rows)):
            self._reads_in_memory = 0
        else:
            self._reads_in_memory += 1

    @cached_property
    def _views(self) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """The rows and the scales of a mapped file."""
        assert self._mapped is not None
        extent = self.extent
        rows, groups = int(extent.first_rows[-1]), int(extent.first_groups[-1])
        stored = np.frombuffer(self._mapped, _DTYPES[extent.kind], rows * extent.dim, len(_HEAD))
        if extent.kind != "sq8":
            return stored.reshape(rows, extent.dim), None
        scales = np.frombuffer(self._mapped, "<f4", groups * 2 * extent.dim, extent.scales_offset)
        return stored.reshape(rows, extent.dim), scales.reshape(groups, 2, extent.dim)

    def verify(self) -> None:
        """Reads all of it, and holds every group against its checksum.

        Raises:
            PixdexError: naming the first that does not match.
        """
        extent = self.extent
        checksums = np.frombuffer(self._checksums, "<u8").tolist()
        offset, at = len(_HEAD), extent.scales_offset
        if self._exactly([(0, len(_HEAD))])[0] != _HEAD:
            raise self._damaged("it does not begin like a file of vectors")
        for (shard, first, rows), checksum in zip(extent.groups(), checksums, strict=True):
            stop, after = offset + rows * extent.row_bytes, at + extent.scale_bytes
            content, scales = self._exactly([(offset, stop), (at, after)])
            hasher = xxh3_64(content)
            hasher.update(scales)
            if hasher.intdigest() != checksum:
                raise self._damaged(f"rows {first} to {first + rows - 1} of shard {shard} do not match their checksum")
            offset, at = stop, after

    def _exactly(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        read = iter(self._read([(start, stop) for start, stop in ranges if start < stop]))
        whole = [next(read) if start < stop else b"" for start, stop in ranges]
        for (start, stop), content in zip(ranges, whole, strict=True):
            if len(content) != stop - start:
                raise self._damaged(f"it ends before byte {stop}")
        return whole

    def _damaged(self, why: str) -> PixdexError:
        return PixdexError(
            f"{self.name} is damaged, {why}: restore it from a backup, or search with --shortlist 0; "
            "pixdex reindex --retrain always makes it anew from the stored embeddings"
        )


def opened_vectors(store: Store, file: FileReference) -> VectorFile:
    """Opens a file of vectors of a root: mapped where that is a folder, else read range by range.

    Raises:
        PixdexError: there is no such file, it is damaged, or it is another than the reference speaks of.
    """
    try:
        size = store.size(file.path)
    except FileNotFoundError as error:
        raise missing(store, file.path) from error
    if size != file.bytes or size < _LEAST_BYTES:
        raise damaged(store, file.path, f"it should have {file.bytes} bytes, and {_LEAST_BYTES} at least")
    name, checksum = store.full(file.path), file.checksum.removeprefix("xxh3:")
    if store.local is None:
        return VectorFile(partial(store.read_ranges, file.path), name, file.bytes, checksum)
    with store.local_path(file.path).open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)  # a row is smaller than what is read ahead
    return VectorFile(lambda ranges: [mapped[start:stop] for start, stop in ranges], name, file.bytes, checksum, mapped)


def unpack(stored: NDArray[np.generic], scales: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Returns stored rows `(n, d)` as float32; `scales` `(n, 2, d)` are those of the group of each, of `sq8`."""
    vectors = stored.astype(np.float32)
    if scales is not None:
        vectors *= scales[:, 1]
        vectors += scales[:, 0]
    return vectors
