"""What Pillow decodes in Python is decoded here as Pillow decodes it, and a file that would take minutes is refused."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.transforms.pictures.drawn import encoded
from tests.work import at_most
from transforms.pictures import decoders
from transforms.pictures.decode import decode
from transforms.pictures.decoders import PictureTooSlowError
from transforms.pictures.pixels import to_rgb

RANDOM = np.random.default_rng(0)


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(to_rgb(Image.open(io.BytesIO(data))))


def by_us(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode(data))


def text(kind: str, largest: int | None, numbers: NDArray[np.int64], between: str = " ") -> bytes:
    height, width = numbers.shape[:2]
    top = "" if largest is None else f" {largest}"
    return f"{kind}\n{width} {height}{top}\n{between.join(map(str, numbers.ravel().tolist()))}\n".encode()


# -- PNM as text


@pytest.mark.parametrize("largest", [1, 3, 100, 255, 256, 1023, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3"])
def test_numbers_are_those_that_pillow_reads(kind: str, largest: int) -> None:
    shape = (9, 7, 3) if kind == "P3" else (9, 7)
    data = text(kind, largest, RANDOM.integers(0, largest + 1, shape))

    assert np.array_equal(by_us(data), by_pillow(data))


@pytest.mark.parametrize("between", ["", " ", "\n", " \t\v\f\r\n", " # a comment, 12 13\n"])
def test_bits_may_stand_with_or_without_space(between: str) -> None:
    bits = RANDOM.integers(0, 2, (9, 7))
    data = text("P1", None, bits, between)

    assert np.array_equal(by_us(data)[:, :, 0], np.where(bits, 0, 255))
    assert np.array_equal(by_us(data), by_pillow(data))


@pytest.mark.parametrize("block", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("between", [" ", "\r\n", "\n# 1 2 #3\n", " #\n"])
def test_blocks_may_end_anywhere(block: int, between: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = text("P3", 1000, RANDOM.integers(0, 1001, (4, 3, 3)), between)
    whole = by_us(data)
    monkeypatch.setattr(decoders, "_BLOCK", block)

    assert np.array_equal(by_us(data), whole)
    assert np.array_equal(whole, by_pillow(data))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("1 2 3 4 5 6 7 8", "not enough"),
        ("", "not enough"),
        ("# only a comment", "not enough"),
        ("1 2 3 4 -5 6 7 8 9", "b'-' is no number"),
        ("1 2 3 4 5x 6 7 8 9", "b'x' is no number"),
        ("1 2 3 4 101 6 7 8 9", "101 is larger than 100"),
        ("1 2 3 4 99999999999999999999999 6 7 8 9", "larger than 100"),
        ("1 2 3 4 5 6 7 8 00000000000000000000000009", "more than 10 digits"),
    ],
)
def test_what_is_no_number_is_an_error_as_it_is_to_pillow(body: str, said: str) -> None:
    data = f"P2 3 3 100\n{body}".encode()

    with pytest.raises(ValueError, match=said):
        decode(data)
    with pytest.raises(ValueError):
        by_pillow(data)


def test_what_stands_behind_the_pixels_is_not_looked_at() -> None:
    assert by_us(b"P2 2 1 255\n0 255 and words").tolist() == [[[0] * 3, [255] * 3]]
    assert by_us(b"P1 2 1\n01").tolist() == [[[255] * 3, [0] * 3]]


def test_neither_zero_nor_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        decode(b"P1 2 2\n0 1 2 1")


def test_a_picture_as_text_is_not_read_number_by_number() -> None:
    data = text("P3", 255, RANDOM.integers(0, 256, (300, 400, 3)))

    with at_most(10_000):
        by_us(data)


@pytest.mark.parametrize("header", [b"P3\n#" + b" " * (1 << 20) + b"\n2 2 255\n", b"P3" + b" " * (1 << 20) + b"2 2 9 "])
def test_a_header_without_end_is_an_error_at_once(header: bytes) -> None:
    with at_most(1_000_000), pytest.raises(ValueError, match="header"):
        decode(header + b"1 " * 12)


# -- PNM in bytes


@pytest.mark.parametrize("largest", [1, 7, 100, 254, 300, 1023, 65534, 65535])
@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_bytes_are_scaled_as_pillow_scales_them(kind: str, largest: int) -> None:
    shape = (9, 7, 3) if kind == "P6" else (9, 7)
    numbers = RANDOM.integers(0, 1 << (8 if largest < 256 else 16), shape)  # some are larger than they may be
    data = f"{kind} 7 9 {largest}\n".encode() + numbers.astype("u1" if largest < 256 else ">u2").tobytes()

    assert np.array_equal(by_us(data), by_pillow(data))
    with pytest.raises((ValueError, OSError), match=r"not enough|truncated"):
        decode(data[:-1])


# -- QOI


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["noise", "smooth", "flat", "four colours"])
def test_a_qoi_has_the_pixels_that_pillow_reads(kind: str, mode: str) -> None:
    pixels = {
        "noise": RANDOM.integers(0, 256, (40, 30, 4), np.uint8),
        "smooth": np.add.outer(np.arange(40), np.arange(120)).reshape(40, 30, 4).astype(np.uint8),
        "flat": np.full((40, 30, 4), 9, np.uint8),
        "four colours": RANDOM.integers(0, 256, (4, 4), np.uint8)[RANDOM.integers(0, 4, (40, 30))],
    }[kind]
    data = encoded(Image.fromarray(pixels[:, :, : len(mode)]), "QOI")

    assert np.array_equal(by_us(data), by_pillow(data))


@given(st.lists(st.integers(0, 255), max_size=40), st.sampled_from([3, 4]))
def test_any_operations_of_a_qoi_give_what_they_give_to_pillow(operations: list[int], channels: int) -> None:
    data = b"qoif" + struct.pack(">IIBB", 3, 5, channels, 0) + bytes([0xFE, 1, 2, 3, *operations])
    try:
        expected = by_pillow(data)
    except Exception:  # noqa: BLE001 - Pillow runs into the end of the file in many ways
        with pytest.raises(ValueError, match="not enough"):
            decode(data)
        return

    assert np.array_equal(by_us(data), expected)


def test_a_run_of_black_is_seen_by_what_points_to_it() -> None:
    run_then_index = bytes([0xC0, (255 * 11) % 64])

    assert by_us(b"qoif" + struct.pack(">IIBB", 2, 1, 4, 0) + run_then_index).tolist() == [[[0] * 3] * 2]


def test_a_qoi_whose_runs_never_end_holds_no_more_than_its_pixels() -> None:
    data = b"qoif" + struct.pack(">IIBB", 2, 2, 3, 0) + b"\xfd" * 1_000_000

    with at_most(10_000):
        assert by_us(data).shape == (2, 2, 3)


# -- DDS


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (32, (0xFF0000, 0xFF00, 0xFF)),
        (24, (0xFF0000, 0xFF00, 0xFF)),
        (16, (0xF800, 0x7E0, 0x1F)),
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        (32, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000)),
        (8, (0xE0, 0x1C, 0x3)),
    ],
)
def test_channels_of_a_dds_are_those_that_pillow_reads(bits: int, masks: tuple[int, ...]) -> None:
    flags = 0x41 if len(masks) == 4 else 0x40
    padded = (*masks, 0)[:4]
    head = struct.pack("<7I44x", 124, 0x1007, 6, 5, 0, 0, 0) + struct.pack("<8I20x", 32, flags, 0, bits, *padded)
    data = b"DDS " + head + RANDOM.bytes(30 * bits // 8)

    assert np.array_equal(by_us(data), by_pillow(data))
    with pytest.raises(ValueError, match="not enough"):
        decode(data[:-1])


# -- limits


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    palette = b"".join(bytes([level, 0, level, 0]) for level in range(256))
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + info + palette + runs


@pytest.mark.parametrize(
    ("name", "limit", "data"),
    [
        ("PNM", "ppm_plain", b"P3 2 2 255\n" + b"1 " * 12),
        ("QOI", "qoi", encoded(Image.new("RGB", (2, 2)), "QOI")),
        ("BMP", "bmp_rle", bmp_of_runs(4, 1, b"\4\1\0\1")),
    ],
)
def test_more_bytes_than_are_decoded_in_time_are_refused(
    name: str, limit: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decode(data).size

    monkeypatch.setitem(decoders._LIMITS, limit, (10, name))

    with pytest.raises(PictureTooSlowError, match=rf"{name} of {len(data)} bytes .* the limit is 10: save it as PNG"):
        decode(data)


def test_two_bytes_that_skip_255_very_long_lines_are_refused() -> None:
    with pytest.raises(PictureTooSlowError, match="100000 pixels wide"):
        decode(bmp_of_runs(100_000, 300, b"\0\2\0\xff"))
