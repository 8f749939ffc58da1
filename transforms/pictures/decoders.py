"""Pixels of the formats that Pillow decodes in Python, a microsecond each and more: here by numpy, or in bounded time.

Pillow opens the file; `hasten` then names a decoder of this module in the place of its own. What is in the file is read
as Pillow reads it. A format whose every pixel depends on the one before (QOI, run lengths of BMP) is still read in
Python, and by the byte: a file of it that would take minutes is refused.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from PIL import Image, ImageFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BytesIO

    import numpy.typing as npt

PLAIN_BYTES_LIMIT: Final = 128 << 20
"""Bytes of a PNM that is written as text: 3 seconds, or half a minute where all of it is comments."""

QOI_BYTES_LIMIT: Final = 32 << 20
"""Bytes of a QOI: about 15 seconds, where each byte is a pixel."""

RUN_BYTES_LIMIT: Final = 16 << 20
"""Bytes of a BMP of run lengths: about 15 seconds."""

RUN_WIDTH_LIMIT: Final = 32767
"""Pixels in a line of such a BMP: two bytes of it may skip 255 lines."""

_BLOCK: Final = 1 << 20
_PIXELS_AT_ONCE: Final = 1 << 20
_DIGITS: Final = b"0123456789"
_LONGEST: Final = 10
_SPACE: Final = b" \t\n\v\f\r"
_COMMENT: Final = re.compile(rb"#[^\r\n]*")
_LINE_END: Final = re.compile(rb"[\r\n]")
_NO_NUMBER: Final = re.compile(rb"[^0-9 \t\n\v\f\r]")


class PictureTooSlowError(ValueError):
    """A picture is of a format that is decoded slowly, and larger than is read in well under a minute."""


def hasten(image: Image.Image, size: int) -> None:
    """Puts a decoder of this module in the place of Pillow's, where that is slow.

    Args:
        image: opened, not loaded.
        size: bytes of the file.

    Raises:
        PictureTooSlowError: no decoder is fast enough for so many bytes.
    """
    for tile in getattr(image, "tile", ()):
        limit, what = _LIMITS.get(tile.codec_name, (size, ""))
        if size > limit:
            raise PictureTooSlowError(
                f"{what} of {size} bytes takes too long to decode, the limit is {limit}: save it as PNG"
            )
        if tile.codec_name == "bmp_rle" and image.width > RUN_WIDTH_LIMIT:
            raise PictureTooSlowError(
                f"BMP of run lengths is {image.width} pixels wide, the limit is {RUN_WIDTH_LIMIT}: save it as PNG"
            )
    if any(tile.codec_name in _DECODERS for tile in getattr(image, "tile", ())):
        image = cast("ImageFile.ImageFile", image)
        image.tile = [tile._replace(codec_name=_DECODERS.get(tile.codec_name, tile.codec_name)) for tile in image.tile]


class _Decoder(ImageFile.PyDecoder):
    """Reads all that stands behind the header of a file in memory."""

    _pulls_fd = True

    def decode(self, _: object) -> tuple[int, int]:
        """Sets all pixels at once; raises ValueError where the file has not enough of them."""
        assert self.fd is not None
        data = cast("BytesIO", self.fd).getvalue()
        self._set(data, self.fd.tell())
        return -1, 0

    def _set(self, data: bytes, start: int) -> None:
        raise NotImplementedError

    @property
    def _pixels(self) -> int:
        return self.state.xsize * self.state.ysize


class _PlainPnm(_Decoder):
    """PBM, PGM and PPM as text (netpbm's P1, P2 and P3)."""

    def _set(self, data: bytes, start: int) -> None:
        if self.mode == "1":
            self.set_as_raw(_plain_bits(data, start, self._pixels), "1;8")
            return
        table = _scale(self.args[-1], self.mode, self.args[-1] + 1)
        values = np.zeros(self._pixels * Image.getmodebands(self.mode), table.dtype)
        self.set_as_raw(_filled(values, _plain_numbers(data, start, len(values)), table), _raw(self.mode))


class _Pnm(_Decoder):
    """PGM and PPM whose largest number is neither 255 nor 65535, or whose colours have two bytes (P5 and P6)."""

    def _set(self, data: bytes, start: int) -> None:
        kind = np.dtype(np.uint8 if self.args[-1] < 256 else ">u2")
        table = _scale(self.args[-1], self.mode, 1 << 8 * kind.itemsize)
        wanted = self._pixels * Image.getmodebands(self.mode)
        there = min(wanted, (len(data) - start) // kind.itemsize)
        numbers = np.frombuffer(data, kind, there, start)
        self.set_as_raw(table[numbers].tobytes(), _raw(self.mode))


class _DdsRgb(_Decoder):
    """DDS without compression: the bits of a number that each channel has."""

    def _set(self, data: bytes, start: int) -> None:
        bits, masks = self.args
        if bits not in (8, 16, 24, 32):
            raise ValueError(f"DDS has {bits} bits a pixel, not 8, 16, 24 or 32")
        size = bits // 8
        there = min(self._pixels, (len(data) - start) // size)
        channels = np.empty((there, len(masks)), np.uint8)
        stored = np.frombuffer(data, np.uint8, there * size, start).reshape(there, size)
        for first in range(0, there, _PIXELS_AT_ONCE):
            some = slice(first, first + _PIXELS_AT_ONCE)
            numbers = np.zeros((len(stored[some]), 4), np.uint8)
            numbers[:, :size] = stored[some]
            for channel, mask in enumerate(masks):
                channels[some, channel] = _channel(numbers.view("<u4")[:, 0], mask)
        self.set_as_raw(channels.tobytes())


class _Qoi(_Decoder):
    """The Quite OK Image format, version 1.0 of its specification (qoiformat.org)."""

    def _set(self, data: bytes, start: int) -> None:
        pixels = _qoi_pixels(data, start, self._pixels)
        channels = pixels.view(np.uint8).reshape(-1, 4)
        self.set_as_raw((channels if self.mode == "RGBA" else channels[:, :3]).tobytes())


_DECODERS: Final = {
    "ppm_plain": "pixdex_plain_pnm",
    "ppm": "pixdex_pnm",
    "dds_rgb": "pixdex_dds_rgb",
    "qoi": "pixdex_qoi",
}
_LIMITS: Final = {
    "ppm_plain": (PLAIN_BYTES_LIMIT, "PNM as text"),
    "qoi": (QOI_BYTES_LIMIT, "QOI"),
    "bmp_rle": (RUN_BYTES_LIMIT, "BMP of run lengths"),
}
for _name, _decoder in {
    "pixdex_plain_pnm": _PlainPnm,
    "pixdex_pnm": _Pnm,
    "pixdex_dds_rgb": _DdsRgb,
    "pixdex_qoi": _Qoi,
}.items():
    Image.register_decoder(_name, _decoder)


def _raw(mode: str) -> str:
    return "I;32" if mode == "I" else mode


def _scale(largest: int, mode: str, count: int) -> npt.NDArray[np.int32] | npt.NDArray[np.uint8]:
    """What each of the first `count` numbers becomes, where `largest` is white, as Pillow rounds."""
    white = 65535 if mode == "I" else 255
    scaled = np.minimum(np.rint(np.arange(count) / largest * white), white)
    return scaled.astype("<i4") if mode == "I" else scaled.astype(np.uint8)


def _filled(
    values: npt.NDArray[np.generic], blocks: Iterator[npt.NDArray[np.int64]], table: npt.NDArray[np.generic]
) -> bytes:
    """Fills an array with what a table makes of numbers; the bytes of as many as there are."""
    have = 0
    for numbers in blocks:
        some = numbers[: len(values) - have]
        if len(some) and int(some.max()) >= len(table):
            raise ValueError(f"{int(some.max())} is larger than {len(table) - 1}, the largest number of the picture")
        values[have : have + len(some)] = table[some]
        have += len(some)
    return values[:have].tobytes()


def _plain_numbers(data: bytes, start: int, wanted: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yields the numbers of a text, until there are as many as wanted."""
    for text in _texts(data, start):
        odd = _NO_NUMBER.search(text) if text.translate(None, _DIGITS + _SPACE) else None
        sound = text if odd is None else text[: odd.start()]
        numbers = np.fromstring(sound, np.int64, sep=" ") if sound.strip() else np.empty(0, np.int64)
        yield numbers
        wanted -= len(numbers)
        if wanted <= 0:
            return
        if odd is not None:
            raise ValueError(f"{odd[0]!r} is no number")


def _plain_bits(data: bytes, start: int, wanted: int) -> bytes:
    """Returns a byte a pixel, 255 for white, of a text of zeros and ones with or without space between them."""
    bits = bytearray()
    for text in _texts(data, start):
        block = text.translate(None, _SPACE)[: wanted - len(bits)]
        if odd := block.translate(None, b"01"):
            raise ValueError(f"{odd[:1]!r} is neither 0 nor 1")
        bits += block
        if len(bits) == wanted:
            break
    return bytes(bits.translate(bytes.maketrans(b"01", b"\xff\x00")))


def _texts(data: bytes, start: int) -> Iterator[bytes]:
    """Yields a text in blocks that end between two numbers, without its comments, which go from `#` to a line's end."""
    held, in_comment = b"", False
    for position in range(start, len(data), _BLOCK):
        block = data[position : position + _BLOCK]
        if in_comment:
            end = _LINE_END.search(block)
            if end is None:
                continue
            block = block[end.start() :]
        last_line = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        in_comment = block.find(b"#", last_line) >= 0
        text = held + (_COMMENT.sub(b"", block) if b"#" in block else block)
        whole = text.rstrip(_DIGITS)
        held = text[len(whole) :]
        if len(held) > _LONGEST:
            raise ValueError(f"a number has more than {_LONGEST} digits")
        yield whole
    yield held


def _channel(numbers: npt.NDArray[np.uint32], mask: int) -> npt.NDArray[np.uint8]:
    """The bits of a mask as shares of 255, cut off as Pillow cuts them off; 0 where the mask has none."""
    if not mask:
        return np.zeros(len(numbers), np.uint8)
    shift = (mask & -mask).bit_length() - 1
    part = ((numbers & np.uint32(mask)) >> np.uint32(shift)).astype(np.float64)
    return (part / (mask >> shift) * 255).astype(np.uint8)


def _qoi_pixels(data: bytes, start: int, wanted: int) -> npt.NDArray[np.uint32]:
    """Returns pixels, red in the lowest byte and alpha in the highest; fewer than wanted where the file ends before.

    Cost: about half a microsecond an operation, which is a byte or more, and up to 62 pixels.
    """
    pixels = array("I")
    append, stream = pixels.append, iter(memoryview(data)[start:])
    seen = [0] * 64
    red, green, blue, alpha = 0, 0, 0, 255
    pixel = 0xFF000000
    try:
        for byte in stream:
            if byte < 0x40:
                pixel = seen[byte]
                append(pixel)
                red, green, blue, alpha = pixel & 0xFF, pixel >> 8 & 0xFF, pixel >> 16 & 0xFF, pixel >> 24
                continue
            if byte < 0x80:
                red = (red + (byte >> 4 & 3) - 2) & 0xFF
                green = (green + (byte >> 2 & 3) - 2) & 0xFF
                blue = (blue + (byte & 3) - 2) & 0xFF
            elif byte < 0xC0:
                second = next(stream)
                step = byte - 0xA0
                red = (red + step + (second >> 4) - 8) & 0xFF
                green = (green + step) & 0xFF
                blue = (blue + step + (second & 0x0F) - 8) & 0xFF
            elif byte < 0xFE:
                if len(pixels) >= wanted:
                    break
                pixels.extend([pixel] * (byte - 0xBF))
                if byte - 0xBF == len(pixels):  # only of the first pixel of all has no other operation said what it is
                    seen[(red * 3 + green * 5 + blue * 7 + alpha * 11) & 63] = pixel
                continue
            else:
                red, green, blue = next(stream), next(stream), next(stream)
                if byte == 0xFF:
                    alpha = next(stream)
            pixel = red | green << 8 | blue << 16 | alpha << 24
            seen[(red * 3 + green * 5 + blue * 7 + alpha * 11) & 63] = pixel
            append(pixel)
    except StopIteration:
        pass  # within an operation; pixels are missing, or it stands behind them
    return np.frombuffer(pixels, "<u4")[:wanted]
