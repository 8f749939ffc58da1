"""The picture of an ICO file by Pillow, with the transparency that Windows gives it.

A bitmap of 32 bits in an icon has alpha in its fourth bytes, unless all of them are 0: then its mask says what is
transparent, as that of any other bitmap does. Pillow believes the directory of the icon instead, which often says
nothing, and alpha of 0 everywhere.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import IcoImagePlugin, Image, PngImagePlugin

if TYPE_CHECKING:
    import numpy.typing as npt

_BITFIELDS = 3


def open_icon(data: bytes) -> Image.Image:
    """Opens the largest picture of an icon, which states its own size.

    Raises:
        SyntaxError, IndexError, struct.error: it is no icon, or has no picture.
        Exception: whatever Pillow raises for a damaged one; a bitmap is decoded while it is opened.
    """
    file = IcoImagePlugin.IcoFile(BytesIO(data))
    image = file.frame(0)
    start = file.entry[0].offset
    if isinstance(image, PngImagePlugin.PngImageFile) or struct.unpack_from("<H", data, start + 14)[0] != 32:
        return image
    (header,), (compression,) = struct.unpack_from("<I", data, start), struct.unpack_from("<I", data, start + 16)
    pixels = start + header + (12 if compression == _BITFIELDS and header == 40 else 0)
    width, height = image.size
    alpha: npt.NDArray[np.uint8] = np.frombuffer(data, np.uint8, width * height * 4, pixels)[3::4].reshape(
        height, width
    )
    if not alpha.any():
        alpha = _mask(data, pixels + 4 * width * height, width, height)
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(np.ascontiguousarray(alpha[::-1])))  # lines go from the bottom up
    return image


def _mask(data: bytes, start: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Returns alpha, uint8 (height, width), of a mask whose ones are transparent; all of it is seen without a mask."""
    stride = -(-width // 32) * 4
    if len(data) < start + stride * height:
        return np.full((height, width), 255, np.uint8)
    lines = np.frombuffer(data, np.uint8, stride * height, start).reshape(height, stride)
    return np.where(np.unpackbits(lines, axis=1)[:, :width] == 1, 0, 255).astype(np.uint8)
