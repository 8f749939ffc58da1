"""TIFF files tag by tag, as no library writes them."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, BITS, COMPRESSION, INTERPRETATION, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, SAMPLES, ROWS, STRIP_BYTES, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, WEIGHTS = 332, 338, 339, 529
DEFLATE: Final = 8

Order = Literal["<", ">"]


def tiff(tags: dict[int, list[int]], *planes: NDArray[Any] | bytes, order: Order = "<") -> bytes:
    """A TIFF of one strip a plane; arrays of shape (height, width, …) are written in the order of the file."""
    first = planes[0]
    size = (8, 8) if isinstance(first, bytes) else (first.shape[1], first.shape[0])
    strips = [
        plane if isinstance(plane, bytes) else plane.astype(plane.dtype.newbyteorder(order)).tobytes()
        for plane in planes
    ]
    if tags.get(COMPRESSION) == [DEFLATE]:
        strips = [zlib.compress(strip) for strip in strips]
    tags = {WIDTH: [size[0]], HEIGHT: [size[1]], COMPRESSION: [1], ROWS: [size[1]], **tags}
    return _file(tags, strips, order)


def _file(tags: dict[int, list[int]], strips: Sequence[bytes], order: Order) -> bytes:
    start = 14 + 12 * (len(tags) + 2)
    room = 256
    offsets = [start + room + sum(map(len, strips[:number])) for number in range(len(strips))]
    values = {**tags, STRIP_OFFSETS: offsets, STRIP_BYTES: [len(strip) for strip in strips]}
    entries = behind = b""
    for tag, numbers in sorted(values.items()):
        is_long = tag in (STRIP_OFFSETS, STRIP_BYTES)
        raw = struct.pack(f"{order}{len(numbers)}{'I' if is_long else 'H'}", *numbers)
        if len(raw) > 4:
            raw, behind = struct.pack(f"{order}I", start + len(behind)), behind + raw
        entries += struct.pack(f"{order}HHI", tag, 4 if is_long else 3, len(numbers)) + raw.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(values))
    return head + entries + bytes(4) + behind.ljust(room, b"\0") + b"".join(strips)


def packed_12_bits(numbers: NDArray[np.uint16]) -> bytes:
    """Numbers of 12 bits, one behind the other."""
    bits = np.unpackbits(numbers.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    return np.packbits(bits.reshape(-1)).tobytes()
