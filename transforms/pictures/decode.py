"""Bytes of a picture file to one upright 8-bit RGB picture, within a known amount of memory.

Safe to call from many threads: Pillow's global state stays as it is. Only a rule that hides Pillow's own warnings is
added to the process's warning filters, since they name a file nobody can see and would fill the console.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    DdsImagePlugin,
    ExifTags,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PcxImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    QoiImagePlugin,
    SgiImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from transforms.pictures import decoders, headers, jpeg
from transforms.pictures.budget import Budget, DecodeBudget
from transforms.pictures.icons import open_icon
from transforms.pictures.meaning import meaning_of
from transforms.pictures.pixels import Box, to_rgb
from transforms.pictures.tiff import TiffPicture

if TYPE_CHECKING:
    import numpy.typing as npt

Fit = Literal["crop", "pad"]
"""How an encoder's square sees a picture: its centre, or all of it with a white border."""

PIXEL_LIMIT: Final = 179_000_000
"""Pixels a picture may declare by default; Pillow's own limit, rounded up."""

PICTURE_ENDINGS: Final[frozenset[str]] = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".mpo"),
        *(".png", ".apng", ".gif", ".webp", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf"),
        *(".bmp", ".tif", ".tiff", ".ico", ".tga", ".pcx", ".psd", ".dds", ".sgi", ".qoi"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    }
)
"""Lower-case endings of the files that a folder source takes; a glob takes whatever it matches.

They are the common endings of the formats that `decode` reads. What Pillow cannot read (.hdr, .exr, .ff, .svg, .heic)
is not among them: a folder of photographs should not fill up with rejects for files that were never pictures to us.
"""

# In the order they are tried; TGA has no signature and comes last. Left out on purpose: EPS runs Ghostscript, WMF draws
# with the system, ICNS hides pictures of undeclared size, and FITS, HDF5, GRIB and fonts are no pictures.
_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    GifImagePlugin.GifImageFile,
    WebPImagePlugin.WebPImageFile,
    AvifImagePlugin.AvifImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    IcoImagePlugin.IcoImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    PpmImagePlugin.PpmImageFile,
    QoiImagePlugin.QoiImageFile,
    PsdImagePlugin.PsdImageFile,
    DdsImagePlugin.DdsImageFile,
    SgiImagePlugin.SgiImageFile,
    PcxImagePlugin.PcxImageFile,
    TgaImagePlugin.TgaImageFile,
)
_FORMATS: Final = tuple(plugin.format for plugin in _PLUGINS)

_PNM_HEADER = 64 << 10
_OVERSAMPLING = 2
_LONGEST = 16
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})
# What Pillow holds while it decodes one pixel, where that is more than the pixel itself.
_WORKING_BYTES = {"WEBP": 16, "AVIF": 12, "JPEG2000": 20, "QOI": 20, "DDS": 12, "PPM": 12, "TIFF": 8}
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2}

# Before it raises, this module also logs what it raises; once is enough.
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)


class PictureTooLargeError(ValueError):
    """A picture has more pixels than allowed; raised from its declared size, before any pixel is decoded."""


def decode(
    data: bytes,
    *,
    pixel_limit: int = PIXEL_LIMIT,
    target: int | None = None,
    mode: Fit = "crop",
    budget: Budget | None = None,
) -> Image.Image:
    """Decodes a file's first picture to 8-bit RGB, upright, with transparency on white (see `pixels.to_rgb`).

    What a header says of its numbers holds (see `meaning`): alpha that it does not have is none, and 0 may be white.

    Formats: JPEG (MPO), PNG, GIF, WebP, AVIF, BMP, TIFF, ICO, JPEG 2000, PNM, PFM, QOI, PSD, DDS, SGI, PCX, TGA. Colour
    of 16 bits is read as 8 by Pillow; grey of 16 bits is scaled. EXIF orientation is applied, unreadable EXIF ignored.

    Args:
        data: the whole file.
        pixel_limit: pixels that the file may declare, width x height.
        target: the side of the square that the encoder will see. With it the picture is shrunk while it is decoded, by
            a whole factor, to no less than twice that on the side that counts: the short side for "crop", the long one
            for "pad". For "crop" the ends of a picture longer than 16 : 1 are cut off too, evenly, because scaling the
            short side of such a strip to `target` takes memory without bound. Without it the picture keeps its size.
        mode: which of the two the encoder will see; used with `target` only.
        budget: shared by the threads that decode, or the share that holds the file; the picture waits here until the
            memory of its pixels fits.

    Returns:
        A new RGB picture that holds neither the file nor its metadata. Equal bytes and arguments give equal pixels.
        `info["size"]` is the (width, height) of the picture in the file, upright, whatever `target` made of it.

    Cost:
        Peak memory above the file's own bytes, for 17,000 x 10,000 pixels with `target=224` (without): JPEG 14 MB
        (1.3 GB), progressive JPEG 0.50 GB (1.3 GB), PNG 0.65 GB (1.3 GB), in 0.1, 0.7 and 1 to 3 seconds (2 to 4).
        Other formats with `target`, a pixel: BMP, TGA, TIFF 4.1 bytes, TIFF stored turned 8, JPEG 2000 5, AVIF 9, WebP
        16, because these libraries keep copies of their own. What Pillow decodes in Python (PNM as text, QOI) has a
        limit of bytes and is decoded here, see `decoders`.

    Raises:
        PictureTooLargeError: more pixels than `pixel_limit`.
        headers.PictureHeaderError: so much metadata that Pillow would take minutes to open the file.
        decoders.PictureTooSlowError: too many bytes of a format that is decoded slowly.
        ValueError: no width or no height.
        PIL.UnidentifiedImageError: none of the formats above.
        Exception: for damaged and truncated files, whatever Pillow raises: OSError, SyntaxError, ValueError,
            IndexError, TypeError, struct.error, zlib.error, EOFError, OverflowError, MemoryError,
            DecompressionBombError and others.
    """
    result = _decode(data, pixel_limit, target, mode, budget, as_array=False)
    assert isinstance(result, Image.Image)
    return result


def decode_pixels(
    data: bytes, *, pixel_limit: int = PIXEL_LIMIT, target: int | None = None, budget: Budget | None = None
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """Decodes a file's first picture to what `decode` makes of it with mode "crop", as an array.

    Plain JPEG files become it without Pillow's own memory between, see `jpeg`.

    Args:
        data, pixel_limit, target, budget: as of `decode`, and so is all that is raised.

    Returns:
        (height, width, 3), RGB; and the upright (width, height) of the picture in the file.
    """
    result = _decode(data, pixel_limit, target, "crop", budget, as_array=True)
    if isinstance(result, Image.Image):
        return np.array(result), result.info["size"]
    return result


def _decode(
    data: bytes, pixel_limit: int, target: int | None, mode: Fit, budget: Budget | None, *, as_array: bool
) -> Image.Image | tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """As an array where that is asked for and can be made directly, else as a picture."""
    _hide_pillow_warnings()
    headers.check(data)
    image = _open(data)
    width, height = image.size
    if width < 1 or height < 1:
        raise ValueError(f"picture has no pixels: {width} x {height}")
    if width * height > pixel_limit:
        raise PictureTooLargeError(
            f"picture declares {width} x {height} = {width * height} pixels, the limit is {pixel_limit}: "
            "raise the pixel limit or leave the picture out"
        )
    if image.info.get("progressive"):
        headers.check_scans(data)
    decoders.hasten(image, len(data))
    meaning = meaning_of(image, data)
    factor = 1 if target is None else _factor(image.size, target, mode)
    needed = _working_bytes(image, factor, _draft(image, data, factor))
    with (budget or DecodeBudget()).take(needed):
        try:
            is_done = target is None or (image.size == _seen(image.size)[2:] and _factor(image.size, target, mode) == 1)
            pixels = jpeg.pixels(image, data) if as_array and is_done else None
            if pixels is not None:
                orientation = _orientation(image)
                size = (height, width) if orientation in _SIDEWAYS else (width, height)
                return _turned(pixels, orientation), size
            image.load()
            box = _seen(image.size) if target is not None and mode == "crop" else (0, 0, *image.size)
            result = to_rgb(image, box, 1 if target is None else _factor(image.size, target, mode), meaning)
            orientation = _orientation(image)
            turned = orientation in _SIDEWAYS or image.size == (height, width)  # Pillow turns TIFF files itself
            result.info["size"] = (height, width) if turned else (width, height)
            return result.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else result
        finally:
            image.close()
            del image  # with what its decoder holds, before the budget is given back


def fit(image: Image.Image, mode: Fit, *, pixel_limit: int = PIXEL_LIMIT) -> Image.Image:
    """Makes a decoded picture fit an encoder that takes squares.

    Args:
        image: RGB, width x height.
        mode: "crop" returns the picture unchanged, because encoders scale the short side and cut the centre themselves.
            "pad" puts it, untouched, into the middle of a white square of its long side; an odd pixel of border goes to
            the right or to the bottom. A picture that is square already is returned unchanged.
        pixel_limit: pixels that the square may have: a strip of 100,000 x 10 would become 10 billion. Decoding with
            `target` and mode "pad" keeps every picture far below.

    Raises:
        PictureTooLargeError: the square would have more pixels than `pixel_limit`.
    """
    side = max(image.size)
    if mode == "crop" or image.width == image.height:
        return image
    if side * side > pixel_limit:
        raise PictureTooLargeError(
            f"padding {image.width} x {image.height} to a square takes {side * side} pixels, "
            f"the limit is {pixel_limit}: decode it with a target size"
        )
    square = Image.new("RGB", (side, side), "white")
    square.info.update(image.info)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _open(data: bytes) -> Image.Image:
    """`Image.open` for the safe formats, without its limit on pixels, which is global and would speak before ours."""
    file = BytesIO(data)
    refusal = "cannot identify image file: it begins like none of the formats that are read"
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(data[:16]) is not True:
            continue
        file.seek(0)
        try:
            if name == "ICO":  # IcoImageFile decodes while it opens; a part states the size of the picture inside
                return open_icon(data)
            if name == "PPM":
                return _open_pnm(data)
            return TiffPicture(file, "") if name == "TIFF" else factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            if accept is not None:
                refusal = f"cannot open {name} file: {error}"
    raise UnidentifiedImageError(refusal)


def _open_pnm(data: bytes) -> Image.Image:
    """Opens a PNM by its first bytes: Pillow reads comments and space of the header byte by byte, all of them."""
    image = PpmImagePlugin.PpmImageFile(BytesIO(data[:_PNM_HEADER]), "")
    image.fp = BytesIO(data)
    return image


def _factor(size: tuple[int, int], target: int, mode: Fit) -> int:
    side = min(size) if mode == "crop" else max(size)
    return max(1, side // (_OVERSAMPLING * target))


def _seen(size: tuple[int, int]) -> Box:
    """The part that an encoder which crops can see: the middle, at most `_LONGEST` times as long as wide."""
    width, height = (min(side, _LONGEST * min(size)) for side in size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _draft(image: Image.Image, data: bytes, factor: int) -> int:
    """Lets the decoder shrink where it can, by a power of two up to `factor`, and returns that power."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        scale = next(scale for scale in (8, 4, 2, 1) if scale <= factor)
        if scale > 1:
            image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
        return scale
    if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile) and factor > 1 and _halves(data):
        image.reduce = 1  # no further: Pillow rounds sizes where OpenJPEG rounds up, and then fails
        return 2
    return 1


def _halves(data: bytes) -> bool:
    """Whether a JPEG 2000 file holds its picture at half its size too (ISO 15444-1, A.5.1 and A.6.1)."""
    start = data.find(b"\xff\x4f\xff\x51")
    at_origin = data[start + 16 : start + 24] == bytes(8)
    position = start + 2
    while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] != b"\x52":
        position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
    levels = data[position + 9 : position + 10]
    return start >= 0 and at_origin and levels > b"\0"


def _working_bytes(image: Image.Image, factor: int, scale: int) -> int:
    """Estimates what decoding holds at its peak, from the header: the decoder's own memory, the pixels, the result.

    Args:
        image: opened, not loaded.
        factor: by which the picture will be shrunk in all.
        scale: the part of it that the decoder does.
    """
    declared = image.width * image.height * (scale**2 if image.format in {"JPEG", "MPO"} else 1)
    result = 4 * declared // factor**2
    # A progressive JPEG is collected whole, as 16-bit coefficients, however small it is drawn.
    collected = 2 * len(image.getbands()) * declared if image.info.get("progressive") else 0
    a_pixel = _WORKING_BYTES.get(image.format or "", _PIXEL_BYTES.get(image.mode, 4))
    return collected + a_pixel * declared // scale**2 + result


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (ArithmeticError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return 1  # as browsers do: a picture is not lost for broken notes about it


def _turned(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """As `_UPRIGHT` turns pictures."""
    if orientation in _SIDEWAYS:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


_quiet_lock = threading.Lock()
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _hide_pillow_warnings() -> None:
    """Keeps the rule that ignores warnings of PIL's modules in force, from now on, in this process.

    `warnings.catch_warnings` is no way: it swaps the process's list of rules, so that threads restore each other's.
    The rule is looked for at each call instead of set once, because others (test runners, mostly) swap the list too.
    """
    if _QUIET not in warnings.filters:
        with _quiet_lock:
            if _QUIET not in warnings.filters:
                warnings.filterwarnings("ignore", module=r"PIL\.")
