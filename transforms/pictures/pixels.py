"""From any Pillow mode to 8-bit RGB on white, tile by tile, so that a huge picture is never in memory twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, as in Pillow."""

Alpha = Literal["declared", "unless_empty", "none"]
"""Whether alpha counts: yes; unless it is 0 everywhere, as in files whose writers left it out; no."""


@dataclass(frozen=True)
class Meaning:
    """What the numbers of a picture mean.

    Attributes:
        alpha: whether its alpha channel, or that of its palette, counts.
        white: the number that is white in grey of more than 8 bits, where all are within 0..white; None: 65535, of
            floats 1.
        is_negative: black and white are the other way round.
        is_unsigned: 32-bit integers have no sign.
    """

    alpha: Alpha = "declared"
    white: int | None = None
    is_negative: bool = False
    is_unsigned: bool = False


PLAIN: Final = Meaning()
"""Numbers are what Pillow takes them for."""

_TILE = 256  # small enough for the processor's cache, which makes it faster too
_DEEP = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
# Modes that Pillow converts to RGBA in one step, or not at all, by way of the mode beside them.
_STRAIGHT_ALPHA = {"La": "LA", "RGBa": "RGBA"}


def to_rgb(image: Image.Image, box: Box | None = None, factor: int = 1, meaning: Meaning = PLAIN) -> Image.Image:
    """A region of a picture as 8-bit RGB, averaged over blocks of factor x factor pixels.

    Transparency, of whatever kind, is laid on white before averaging. Grey of more than 8 bits is scaled, not clipped:
    integers within 0..65535 count as 16 bit, floats within 0..1 as shares of white, and anything else is stretched from
    the picture's own minimum (black) to its maximum (white); what is not finite is black. Colour profiles are ignored,
    as the usual preprocessing of encoders does.

    Args:
        image: any mode; it is loaded and not changed.
        box: the region, by default all of it.
        factor: at least 1. The result measures ceil(width / factor) x ceil(height / factor); blocks at the right and
            lower edge average the pixels there are. The result equals conversion of the whole followed by `reduce`.
        meaning: what the file says of its numbers.

    Returns:
        A new picture of mode RGB without metadata. It costs 4 bytes a pixel (Pillow keeps RGB in 32 bits), and the work
        on the way a few tiles of 256 x 256 (or of one block, where factor is larger).

    Raises:
        ValueError: Pillow knows no way from this mode to RGB.
    """
    image.load()
    box = left, top, right, bottom = box or (0, 0, *image.size)
    depth = _depth(image, meaning) if image.mode in _DEEP else None
    is_whole = box == (0, 0, *image.size)
    if image.mode == "RGB" and not image.has_transparency_data and (is_whole or factor > 1):
        # As most files are: Pillow does it in one step. (A JPEG 2000 has a number of that name in place of the method.)
        result = image.copy() if factor == 1 else Image.Image.reduce(image, factor, box)
        result.info.clear()
        return result
    opaque = meaning.alpha == "none" or (meaning.alpha == "unless_empty" and _is_clear(image))
    result = Image.new("RGB", (-(-(right - left) // factor), -(-(bottom - top) // factor)))
    for tile in _tiles((left, top, right, bottom), max(factor, _TILE // factor * factor)):
        flat = _flat(image.crop(tile), depth, opaque=opaque)
        if factor > 1:
            flat = flat.reduce(factor)
        result.paste(flat, ((tile[0] - left) // factor, (tile[1] - top) // factor))
    return result


def _tiles(box: Box, side: int) -> Iterator[Box]:
    left, top, right, bottom = box
    for y in range(top, bottom, side):
        for x in range(left, right, side):
            yield x, y, min(x + side, right), min(y + side, bottom)


@dataclass(frozen=True)
class _Depth:
    """Which value is black and which is white, in a picture of more than 8 bits."""

    black: float
    white: float
    is_unsigned: bool = False

    def values(self, tile: Image.Image) -> npt.NDArray[np.generic]:
        """Returns the numbers of a tile, of shape (height, width)."""
        values = np.asarray(tile)
        return values.view(np.uint32) if self.is_unsigned else values


def _depth(image: Image.Image, meaning: Meaning) -> _Depth:
    white = float(meaning.white or (1 if image.mode == "F" else 65535))
    depth = _Depth(0, white, meaning.is_unsigned)
    if image.mode in {"I", "F"}:
        low, high = np.inf, -np.inf
        for tile in _tiles((0, 0, *image.size), _TILE):
            values = depth.values(image.crop(tile))
            finite = values[np.isfinite(values)]
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        depth = depth if low >= 0 and high <= white else replace(depth, black=low, white=high)
    return replace(depth, black=depth.white, white=depth.black) if meaning.is_negative else depth


def _is_clear(image: Image.Image) -> bool:
    """Whether alpha is 0 everywhere."""
    return image.mode in {"RGBA", "LA"} and image.getbbox() is None


def _flat(tile: Image.Image, depth: _Depth | None, *, opaque: bool) -> Image.Image:
    """One tile as L or RGB, with nothing transparent left."""
    if depth is not None:
        return _from_deep(tile, depth)
    if opaque or not tile.has_transparency_data:
        return tile if tile.mode in {"L", "RGB"} else tile.convert("L" if tile.mode in {"1", "LA"} else "RGB")
    if tile.mode in _STRAIGHT_ALPHA:
        tile = tile.convert(_STRAIGHT_ALPHA[tile.mode])
    return _on_white(tile.convert("RGBA"))


def _on_white(tile: Image.Image) -> Image.Image:
    white = Image.new("RGB", tile.size, "white")
    white.paste(tile.convert("RGB"), mask=tile.getchannel("A"))
    return white


def _from_deep(tile: Image.Image, depth: _Depth) -> Image.Image:
    values = depth.values(tile)
    scaled = np.nan_to_num(values.astype(np.float64), nan=depth.black, posinf=depth.black, neginf=depth.black)
    span = (depth.white - depth.black) or 1.0
    grey: npt.NDArray[np.uint8] = np.rint((scaled - depth.black) * (255 / span)).clip(0, 255).astype(np.uint8)
    clear = tile.info.get("transparency")
    if isinstance(clear, int):  # one 16-bit grey level that a PNG declares transparent
        grey = np.where(values == clear, np.uint8(255), grey)
    return Image.fromarray(grey)
