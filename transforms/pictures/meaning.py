"""What a file says of its numbers that Pillow's mode does not: which one is white, and whether alpha is alpha.

A fourth channel is no transparency because it is there. Where a header says that it means nothing, it means nothing,
and the picture is what its colours are.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from transforms.pictures.pixels import PLAIN, Alpha, Meaning
from transforms.pictures.tiff import TiffPicture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL import Image

_TGA_FOOTER: Final = b"TRUEVISION-XFILE.\0"
_TGA_ALPHA: Final = (3, 4)
"""Attributes types of a TGA whose alpha is useful: straight, and multiplied into the colours."""

_DDS_ALPHA_PIXELS: Final = 0x1
_DDS_FOUR_CHARACTERS: Final = 0x4
_DDS_PALETTE: Final = 0x20
_DDS_RGB: Final = 0x40
_DDS_NO_ALPHA: Final = (3, 4)
"""Alpha modes of a DX10 header: all of it is opaque; it is something else than alpha."""


def meaning_of(image: Image.Image, data: bytes) -> Meaning:
    """Returns what a file says of its numbers.

    Args:
        image: opened, not loaded.
        data: the whole file.
    """
    if isinstance(image, TiffPicture):
        alpha: Alpha = "declared" if image.declares_alpha else "unless_empty"
        return Meaning(alpha, image.white, image.is_negative, image.is_unsigned)
    reader = _ALPHA.get(image.format or "")
    return Meaning(alpha=reader(data)) if reader is not None else PLAIN


def _tga(data: bytes) -> Alpha:
    """Truevision TGA 2.0: attribute bits (image descriptor, bits 3 to 0) and the attributes type of the extension."""
    if data.endswith(_TGA_FOOTER):
        extension = _number("<I", data, len(data) - 26)
        kind = data[extension + 494 : extension + 495]
        if extension and kind:
            return "declared" if kind[0] in _TGA_ALPHA else "none"
    return "declared" if data[17] & 0x0F else "none"


def _bmp(data: bytes) -> Alpha:
    """Only headers of 56 bytes and more have a mask of alpha; as browsers do, alpha that is 0 everywhere is none."""
    has_mask = _number("<I", data, 14) >= 56 and _number("<I", data, 66)
    return "unless_empty" if has_mask else "none"


def _dds(data: bytes) -> Alpha:
    """DDS_PIXELFORMAT and DDS_HEADER_DXT10 of Microsoft's documentation."""
    flags = _number("<I", data, 80)
    if flags & _DDS_RGB:
        return "declared" if _number("<I", data, 104) else "none"
    if flags & _DDS_PALETTE:
        return "declared" if flags & _DDS_ALPHA_PIXELS else "none"
    if flags & _DDS_FOUR_CHARACTERS and data[84:88] == b"DX10":
        return "none" if _number("<I", data, 144) & 7 in _DDS_NO_ALPHA else "declared"
    return "declared"


def _psd(data: bytes) -> Alpha:
    """Adobe's specification, "Layer info": a negative count of layers makes the first extra channel transparency.

    Without it the channel is a selection that somebody saved, or a spot colour. Where the layers lie in a block of
    their own, the block `Mtrn` says it.
    """
    start = 26
    for _ in ("colours", "resources"):
        start += 4 + _number(">I", data, start)
    size, of_layers = _number(">I", data, start), _number(">I", data, start + 4)
    if size and of_layers:
        return "declared" if _number(">h", data, start + 8) < 0 else "none"
    return "declared" if data.find(b"8BIMMt", start + 4, start + 4 + size) >= 0 else "none"


_ALPHA: Final[Mapping[str, Callable[[bytes], Alpha]]] = {"TGA": _tga, "BMP": _bmp, "DDS": _dds, "PSD": _psd}


def _number(kind: str, data: bytes, start: int) -> int:
    """Reads a number; 0 behind the end of the file."""
    if not 0 <= start <= len(data) - struct.calcsize(kind):
        return 0
    number: int = struct.unpack_from(kind, data, start)[0]
    return number
