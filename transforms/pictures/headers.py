"""Refuses pictures that would keep Pillow busy for minutes by what is not pixels, from a glance at their parts.

Pillow joins the comments of a GIF and the EXIF segments of a JPEG by copying all there is for every further piece, and
steps over filling byte by byte. The glance takes the steps that Pillow takes, its oddities included: a file that it
read otherwise could hide a bomb behind a frame that Pillow does not see. What it cannot follow it leaves to Pillow.
"""

import re
from typing import Final

GIF_BYTES_LIMIT: Final = 1 << 20
"""Bytes between a GIF's palette and its first frame: comments, XMP, colour profiles."""

GIF_BLOCKS_LIMIT: Final = 1 << 14
"""Sub-blocks, of up to 255 bytes, among them."""

JPEG_BYTES_LIMIT: Final = 16 << 20
"""Bytes of a JPEG's segments before its first scan: EXIF, XMP, colour profiles, comments, tables."""

JPEG_SEGMENTS_LIMIT: Final = 1 << 14
"""Segments, of up to 64 KiB, among them."""

JPEG_EXIF_LIMIT: Final = 64
"""Segments of EXIF among these; cameras write one."""

JPEG_FILL_LIMIT: Final = 64 << 10
"""Bytes that are part of no segment: filling, lone markers, junk."""

JPEG_SCANS_LIMIT: Final = 256
"""Scans of a progressive JPEG: programs write ten, and each passes over the whole picture."""

PNG_CHUNKS_LIMIT: Final = 1 << 18
"""Chunks of a PNG, each of which Pillow takes microseconds to look at."""

PSD_BYTES_LIMIT: Final = 64 << 20
"""Bytes of a PSD's resources: thumbnails, paths, profiles."""

_GIF_SIGNS = re.compile(rb"[!,;]")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
_START_OF_SCAN = 0xDA
_EXIF = b"Exif\0\0"
_COMMENT = 0xFE
_APPLICATION = 0xFF
_LONE_MARKERS = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})


class PictureHeaderError(ValueError):
    """A picture carries more metadata than allowed; raised before Pillow sees the file."""


def check(data: bytes) -> None:
    """Looks at what is not pixels of a GIF, JPEG, PNG or PSD; any other file passes.

    Cost: at most 50 ms, for a file that exceeds a limit; microseconds for others.

    Args:
        data: the whole file.

    Raises:
        PictureHeaderError: its metadata are over one of the limits above.
    """
    if data.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(data)
    elif data.startswith(b"\xff\xd8\xff"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data)
    elif data.startswith(b"8BPS"):
        _check_psd(data)


def check_scans(data: bytes) -> None:
    """Counts the scans of a progressive JPEG, and of the pictures in it; in other bytes their marker cannot occur.

    Cost: a look at every byte, a thousandth of decoding them.

    Raises:
        PictureHeaderError: they are more than `JPEG_SCANS_LIMIT`.
    """
    scans = data.count(bytes([0xFF, _START_OF_SCAN]))
    if scans > JPEG_SCANS_LIMIT:
        raise PictureHeaderError(
            f"JPEG has {scans} scans, each of which passes over the whole picture, the limit is {JPEG_SCANS_LIMIT}: "
            "save it again"
        )


def _check_png(data: bytes) -> None:
    """Portable Network Graphics, section 5.3: length, type, data and checksum of a chunk."""
    position = 8
    for _ in range(PNG_CHUNKS_LIMIT):
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or kind == b"IEND":
            return
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise PictureHeaderError(f"PNG has more than {PNG_CHUNKS_LIMIT} chunks: save it again")


def _check_psd(data: bytes) -> None:
    start = 30 + int.from_bytes(data[26:30], "big")
    size = int.from_bytes(data[start : start + 4], "big")
    if size > PSD_BYTES_LIMIT:
        raise PictureHeaderError(
            f"PSD has {size} bytes of resources, the limit is {PSD_BYTES_LIMIT}: save it without its metadata"
        )


def _check_gif(data: bytes) -> None:
    """GIF89a specification, sections 15 to 26, as `PIL.GifImagePlugin.GifImageFile._seek` reads them."""
    if len(data) < 13:
        return
    start = position = 13 + (6 << (data[10] & 7) if data[10] & 0x80 else 0)
    end = start + GIF_BYTES_LIMIT
    blocks = 0
    while sign := _GIF_SIGNS.search(data, position, end):
        if sign[0] != b"!":
            return
        position = sign.end() + 1
        label = data[position - 1 : position]
        # Of all but comments Pillow takes the first block, whatever it is, and then all up to the next empty one.
        ahead = 0 if label == bytes([_COMMENT]) else 1
        if label == bytes([_APPLICATION]) and data[position + 1 : position + 12] == b"NETSCAPE2.0":
            ahead = 2 if data[position : position + 1] >= b"\x0b" else 1
        while position < len(data) and position < end and blocks <= GIF_BLOCKS_LIMIT:
            size = data[position]
            position += 1 + size
            blocks += 1
            if size == 0 and ahead <= 0:
                break
            ahead -= 1
        if blocks > GIF_BLOCKS_LIMIT:
            raise PictureHeaderError(
                f"GIF has more than {GIF_BLOCKS_LIMIT} blocks of comments and notes before its first frame: "
                "save it without them"
            )
    if len(data) > end:
        raise PictureHeaderError(
            f"GIF has more than {GIF_BYTES_LIMIT >> 20} MiB of comments and notes before its first frame: "
            "save it without them"
        )


def _check_jpeg(data: bytes) -> None:
    """ISO 10918-1, annex B.1.1, as `PIL.JpegImagePlugin.JpegImageFile._open` reads it."""
    position, total, fill, segments, exif = 2, 0, 0, 0, 0
    while marker := _JPEG_MARKER.search(data, position, position + JPEG_FILL_LIMIT + 2):
        fill += marker.start() - position
        kind = data[marker.start() + 1]
        position = marker.end()
        if kind in _LONE_MARKERS:
            fill += 2
        elif kind == _START_OF_SCAN or kind < 0xC0:  # those below are unknown to Pillow
            return
        else:
            size = max(2, int.from_bytes(data[position : position + 2], "big"))
            exif += kind == 0xE1 and data.startswith(_EXIF, position + 2)
            segments += 1
            total += 2 + size
            position += size
        if fill > JPEG_FILL_LIMIT:
            break
        if total > JPEG_BYTES_LIMIT or segments > JPEG_SEGMENTS_LIMIT or exif > JPEG_EXIF_LIMIT:
            raise PictureHeaderError(
                f"JPEG has more than {JPEG_BYTES_LIMIT >> 20} MiB, {JPEG_SEGMENTS_LIMIT} segments or {JPEG_EXIF_LIMIT} "
                "segments of EXIF before its pixels: save it without its metadata"
            )
    if fill > JPEG_FILL_LIMIT or len(data) > position + JPEG_FILL_LIMIT + 2:
        raise PictureHeaderError(
            f"JPEG has more than {JPEG_FILL_LIMIT >> 10} KiB of filling before its pixels: save it again"
        )
