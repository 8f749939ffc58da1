"""Metadata that would keep Pillow busy are refused at once; those that cameras and editors write are not."""

import io
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin

from tests.examples import cheap
from tests.work import at_most
from transforms.pictures import headers
from transforms.pictures.decode import decode
from transforms.pictures.headers import PictureHeaderError

MIB = 1 << 20


def encoded(name: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(file, name, **options)
    return file.getvalue()


def gif(before_frame: bytes) -> bytes:
    plain = encoded("GIF")
    palette_end = 13 + (6 << (plain[10] & 7))
    return plain[:palette_end] + before_frame + plain[palette_end:]


def jpeg(before_tables: bytes) -> bytes:
    plain = encoded("JPEG")
    return plain[:2] + before_tables + plain[2:]


def segment(kind: int, content: bytes) -> bytes:
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(content) + 2) + content


def blocks(content: bytes) -> bytes:
    parts = (content[start : start + 255] for start in range(0, len(content), 255))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


EXIF = segment(0xE1, b"Exif\0\0" + b"x" * 65_000)
COMMENT = b"!\xfe"

BOMBS = {
    "a comment of two million blocks": lambda: gif(COMMENT + b"\x01x" * 2_000_000 + b"\0"),
    "a comment that never ends": lambda: gif(COMMENT) + b"\xffx" + (b"\xff" * 256) * 400_000,
    "comments without end": lambda: gif(b"!\xfe\x01x\0" * 1_000_000),
    "comments behind what only looks like a frame": lambda: gif(b"!\x01\0," + bytes(45) + COMMENT + b"\x01x" * 400_000),
    "comments behind a loop of no turns": lambda: gif(
        b"!\xff\x0bNETSCAPE2.0\0," + bytes(45) + COMMENT + b"\x01x" * 400_000
    ),
    "junk before the frame": lambda: gif(bytes(50 * MIB)),
    "800 segments of EXIF": lambda: jpeg(EXIF * 800),
    "small segments of EXIF": lambda: jpeg(segment(0xE1, b"Exif\0\0" + b"x" * 1000) * 10_000),
    "EXIF behind what only looks like a scan": lambda: jpeg(b"\xff\xc8\0\x0a\xff\xfe\0\x08xxxx\xff\xda" + EXIF * 800),
    "empty comments": lambda: jpeg(segment(0xFE, b"") * 2_000_000),
    "50 MiB of comments": lambda: jpeg(segment(0xFE, b"x" * 65_000) * 800),
    "50 MiB of filling": lambda: jpeg(b"\xff" * (50 * MIB)),
    "50 MiB of junk": lambda: jpeg(b"\xff\x00" * (25 * MIB)),
    "50 MiB of lone markers": lambda: jpeg(b"\xff\xd0" * (25 * MIB)),
    "filling in parts": lambda: jpeg((b"\xff" * 60_000 + segment(0xFE, b"x")) * 100),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_of_metadata_is_refused_at_once(name: str) -> None:
    data = BOMBS[name]()

    with at_most(2_000_000), pytest.raises(PictureHeaderError, match="save it"):
        decode(data)


ORDINARY = {
    "a GIF with a comment": lambda: gif(COMMENT + blocks(b"x" * 60_000)),
    "a GIF with XMP": lambda: gif(b"!\xff\x0bXMP DataXMP" + b"<x:xmpmeta/>" * 9000 + bytes(range(255, -1, -1)) + b"\0"),
    "a GIF with a colour profile": lambda: gif(b"!\xff\x0bICCRGBG1012" + blocks(b"x" * 500_000)),
    "a GIF that loops": lambda: gif(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0!\xf9\x04\0\0\0\0\0"),
    "a GIF with junk": lambda: gif(bytes(1000)),
    "a JPEG of a camera": lambda: jpeg(EXIF + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<x/>" * 9000)),
    "a JPEG with EXIF in four segments": lambda: jpeg(EXIF * 4),
    "a JPEG with extended XMP": lambda: jpeg(
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) * 200
    ),
    "a JPEG with a colour profile": lambda: encoded("JPEG", icc_profile=b"x" * 3 * MIB),
    "a JPEG with a comment": lambda: encoded("JPEG", comment=b"x" * 65_000),
    "a JPEG with filling": lambda: jpeg(b"\xff" * 30_000),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_metadata_are_accepted(name: str) -> None:
    assert decode(ORDINARY[name]()).size == (40, 30)


@pytest.mark.parametrize("name", ["GIF", "JPEG"])
def test_what_follows_the_first_pixels_is_not_counted(name: str) -> None:
    assert decode(encoded(name) + b"\xff\xfe!\xfe\x01" * MIB).size == (40, 30)


def test_the_limits_themselves_are_allowed() -> None:
    jpeg_limit, gif_limit = headers.JPEG_EXIF_LIMIT, headers.GIF_BLOCKS_LIMIT
    headers.check(jpeg(segment(0xE1, b"Exif\0\0") * jpeg_limit))
    headers.check(gif(COMMENT + b"\x01x" * (gif_limit - 1) + b"\0"))
    for data in (jpeg(segment(0xE1, b"Exif\0\0") * (jpeg_limit + 1)), gif(COMMENT + b"\x01x" * gif_limit + b"\0")):
        with pytest.raises(PictureHeaderError):
            headers.check(data)


def bytes_read(plugin: type[ImageFile.ImageFile], data: bytes) -> int:
    file = io.BytesIO(data)
    with suppress(Exception):  # however Pillow fails, it has read so far
        plugin(file, "")
    return file.tell()


PIECES_OF_GIF = st.sampled_from([b"!\x01", b"!\xfe", b"!\xff\x0bNETSCAPE2.0", b"\0", b",", b"\x01x", b"x"])
PIECES_OF_JPEG = st.sampled_from(
    [b"\xff", b"\0", b"\2", b"\xff\xd8", b"\xff\xc8", b"\xff\xfe\0", b"\xff\xfe\0\4", b"\xff\xda\0\2"]
)


# In both, were Pillow to step otherwise than the glance, it would take the tail for more metadata and read on.


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@cheap
@given(st.lists(PIECES_OF_GIF, max_size=20), st.integers(0, 60))
def test_pillow_reads_no_further_than_a_gif_was_looked_through(pieces: list[bytes], limit: int) -> None:
    data = b"GIF89a\x04\0\x04\0\0\0\0" + b"".join(pieces) + b"\x01" * 2000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "GIF_BYTES_LIMIT", limit)
        try:
            headers.check(data)
        except PictureHeaderError:
            return
    descriptor_palette_and_code_size = 10 + 768 + 1
    assert bytes_read(GifImagePlugin.GifImageFile, data) <= 13 + limit + descriptor_palette_and_code_size


@cheap
@given(st.lists(PIECES_OF_JPEG, max_size=20), st.integers(0, 20), st.integers(0, 60))
def test_pillow_reads_no_further_than_a_jpeg_was_looked_through(pieces: list[bytes], fill: int, limit: int) -> None:
    data = b"\xff\xd8\xff" + b"".join(pieces) + b"\xff" * 2000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "JPEG_FILL_LIMIT", fill)
        patch.setattr(headers, "JPEG_BYTES_LIMIT", limit)
        try:
            headers.check(data)
        except PictureHeaderError:
            return
    start_of_scan = 4
    assert bytes_read(JpegImagePlugin.JpegImageFile, data) <= 2 + fill + limit + start_of_scan


def test_a_png_of_very_many_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = encoded("PNG")
    empty = b"\0\0\0\0juNk" + struct.pack(">I", zlib.crc32(b"juNk"))
    crowded = plain[:33] + empty * 40 + plain[33:]
    assert decode(crowded).size == (40, 30)

    monkeypatch.setattr(headers, "PNG_CHUNKS_LIMIT", 42)

    with pytest.raises(PictureHeaderError, match="chunks"):
        decode(crowded)
    assert decode(plain).size == (40, 30)


def test_a_png_of_as_many_chunks_as_fit_a_hundred_megabytes_is_refused_at_once() -> None:
    crowded = encoded("PNG")[:33] + b"\0\0\0\0juNk\0\0\0\0" * 9_000_000

    with at_most(2_000_000), pytest.raises(PictureHeaderError, match="chunks"):
        decode(crowded)


def test_a_progressive_jpeg_of_very_many_scans_is_refused() -> None:
    plain = encoded("JPEG", progressive=True)
    scan = plain[plain.rfind(b"\xff\xda") : -2]
    assert decode(plain).size == (40, 30)

    with at_most(2_000_000), pytest.raises(PictureHeaderError, match="scans"):
        decode(plain[:-2] + scan * 300 + plain[-2:])


def test_a_psd_of_very_many_resources_is_refused() -> None:
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 8, 8, 8, 3) + struct.pack(">II", 0, 100 * MIB)

    with at_most(2_000_000), pytest.raises(PictureHeaderError, match="resources"):
        decode(head + b"8BIM\0\1\0\0\0\0\0\0" * 1000)
