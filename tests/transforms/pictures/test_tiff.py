"""Tags of a TIFF that decide which number is white are honoured, or the picture is refused: never a negative."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from tests.transforms.pictures.tiff_files import (
    BITS,
    COMPRESSION,
    DEFLATE,
    EXTRA_SAMPLES,
    INK_SET,
    INTERPRETATION,
    PLANAR,
    PREDICTOR,
    SAMPLE_FORMAT,
    SAMPLES,
    WEIGHTS,
    Order,
    packed_12_bits,
    tiff,
)
from transforms.pictures import tiff as tiff_module
from transforms.pictures.decode import decode

RAMP = np.tile(np.arange(8, dtype=np.uint16) * 8192, (8, 1))
GREY = np.rint(RAMP / 257).astype(int)
RED_TO_BLUE = np.dstack([RAMP, RAMP // 2, RAMP // 4])

storages = pytest.mark.parametrize(
    ("order", "compression"), [("<", 1), ("<", DEFLATE), (">", 1), (">", DEFLATE)], ids=["II", "II-zip", "MM", "MM-zip"]
)


def first_line(data: bytes) -> list[int]:
    return [int(value) for value in np.asarray(decode(data))[0, :, 0]]


def grey_tiff(values: NDArray[Any], order: Order, compression: int, **tags: int) -> bytes:
    names = {"bits": BITS, "interpretation": INTERPRETATION, "format": SAMPLE_FORMAT, "planar": PLANAR}
    given = {names[name]: [value] for name, value in tags.items()}
    return tiff({SAMPLES: [1], COMPRESSION: [compression], **given}, values, order=order)


@pytest.mark.parametrize("compression", [1, DEFLATE])
@pytest.mark.parametrize("bits", [8, 16])
def test_zero_is_white_where_the_file_says_so(bits: int, compression: int) -> None:
    values = RAMP if bits == 16 else GREY.astype(np.uint8)

    negative = grey_tiff(values, "<", compression, bits=bits, interpretation=0)

    assert first_line(negative) == (255 - GREY[0]).tolist()
    assert first_line(grey_tiff(values, "<", compression, bits=bits, interpretation=1)) == GREY[0].tolist()


def test_zero_is_white_of_16_bits_in_the_other_byte_order_is_refused() -> None:
    with pytest.raises(UnidentifiedImageError, match="TIFF"):
        decode(grey_tiff(RAMP, ">", 1, bits=16, interpretation=0))


@storages
@pytest.mark.parametrize("interpretation", [0, 1])
def test_shares_of_white_are_shares_of_white(order: Order, compression: int, interpretation: int) -> None:
    shares = (RAMP / 65535).astype(np.float32)

    line = first_line(grey_tiff(shares, order, compression, bits=32, interpretation=interpretation, format=3))

    assert line == (GREY[0] if interpretation else 255 - GREY[0]).tolist()


@storages
def test_signed_numbers_are_white_at_their_largest(order: Order, compression: int) -> None:
    line = first_line(grey_tiff((RAMP // 2).astype(np.int16), order, compression, bits=16, interpretation=1, format=2))

    assert line == pytest.approx(GREY[0].tolist(), abs=1)


@storages
@pytest.mark.parametrize("bits", [16, 32])
def test_numbers_below_zero_are_stretched(order: Order, compression: int, bits: int) -> None:
    values = (RAMP.astype(np.int64) - 32768) << (bits - 16)

    line = first_line(
        grey_tiff(values.astype(f"i{bits // 8}"), order, compression, bits=bits, interpretation=1, format=2)
    )

    assert line == np.rint(np.arange(8) * 255 / 7).astype(int).tolist()


@pytest.mark.parametrize("compression", [1, DEFLATE])
def test_unsigned_numbers_of_32_bits_have_no_sign(compression: int) -> None:
    values = RAMP.astype(np.uint32) << 16

    assert first_line(grey_tiff(values, "<", compression, bits=32, interpretation=1)) == (
        np.rint(np.arange(8) * 255 / 7).astype(int).tolist()
    )


@pytest.mark.parametrize("compression", [1, DEFLATE])
def test_12_bits_are_white_at_4095(compression: int) -> None:
    numbers = np.tile(np.arange(8, dtype=np.uint16) * 585, (8, 1))
    tags = {BITS: [12], INTERPRETATION: [1], SAMPLES: [1], COMPRESSION: [compression]}

    assert first_line(tiff(tags, packed_12_bits(numbers))) == np.rint(np.arange(8) * 255 / 7).astype(int).tolist()


@storages
def test_signed_bytes_are_refused(order: Order, compression: int) -> None:
    with pytest.raises(UnidentifiedImageError, match="signed bytes"):
        decode(grey_tiff(GREY.astype(np.uint8), order, compression, bits=8, interpretation=1, format=2))


@storages
@pytest.mark.parametrize("bits", [8, 16])
def test_one_plane_of_grey_is_a_picture_like_any_other(order: Order, compression: int, bits: int) -> None:
    values = RAMP if bits == 16 else GREY.astype(np.uint8)
    plain = grey_tiff(values, order, compression, bits=bits, interpretation=1)

    assert first_line(grey_tiff(values, order, compression, bits=bits, interpretation=1, planar=2)) == first_line(plain)
    if bits == 8:
        negative = grey_tiff(values, order, compression, bits=bits, interpretation=0, planar=2)
        assert first_line(negative) == (255 - GREY[0]).tolist()


@storages
@pytest.mark.parametrize(("interpretation", "channels"), [(2, 3), (5, 4)], ids=["RGB", "CMYK"])
def test_planes_of_16_bits_are_those_that_stand_together(
    order: Order, compression: int, interpretation: int, channels: int
) -> None:
    together = np.dstack([RED_TO_BLUE, RAMP // 8])[:, :, :channels]
    tags = {
        BITS: [16] * channels, INTERPRETATION: [interpretation], SAMPLES: [channels], COMPRESSION: [compression]
    }  # fmt: skip

    apart = tiff({**tags, PLANAR: [2]}, *(together[:, :, channel] for channel in range(channels)), order=order)

    assert np.array_equal(np.asarray(decode(apart)), np.asarray(decode(tiff(tags, together, order=order))))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_predictor_of_16_bits_is_undone(order: Order) -> None:
    steps = np.diff(RED_TO_BLUE.astype(np.int64), axis=1, prepend=0).astype(np.uint16)
    tags = {BITS: [16] * 3, INTERPRETATION: [2], SAMPLES: [3], COMPRESSION: [DEFLATE]}

    assert np.array_equal(
        np.asarray(decode(tiff({**tags, PREDICTOR: [2]}, steps, order=order))),
        np.asarray(decode(tiff(tags, RED_TO_BLUE, order=order))),
    )


@storages
def test_luminance_and_two_differences_are_colours(order: Order, compression: int) -> None:
    grey = np.dstack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)]).astype(np.uint8)
    tags = {BITS: [8] * 3, INTERPRETATION: [6], SAMPLES: [3], COMPRESSION: [compression], 530: [1, 1]}

    pixels = np.asarray(decode(tiff(tags, grey, b"what stands behind the picture" * 20, order=order)[: -len(grey)]))

    assert np.abs(pixels.astype(int) - GREY[:, :, None]).max() <= 3


def test_colours_whose_weights_make_no_sense_are_refused_without_a_word_of_libtiff(
    capfd: pytest.CaptureFixture[str],
) -> None:
    tags = {BITS: [8] * 3, INTERPRETATION: [6], SAMPLES: [3], WEIGHTS: [0, 0, 0]}

    with pytest.raises(UnidentifiedImageError, match="weights"):
        decode(tiff(tags, np.zeros((8, 8, 3), np.uint8)))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("order", ["<", ">"])
def test_inks_that_are_not_those_of_cmyk_are_refused(order: Order) -> None:
    tags = {BITS: [8] * 4, INTERPRETATION: [5], SAMPLES: [4], INK_SET: [2]}

    with pytest.raises(UnidentifiedImageError, match="inks"):
        decode(tiff(tags, np.zeros((8, 8, 4), np.uint8), order=order))


def test_half_floats_and_more_that_pillow_does_not_know_are_refused() -> None:
    with pytest.raises(UnidentifiedImageError):
        decode(grey_tiff((RAMP / 65535).astype(np.float16), "<", 1, bits=16, interpretation=1, format=3))


def test_grey_without_an_interpretation_is_no_negative() -> None:
    assert first_line(tiff({BITS: [8], SAMPLES: [1]}, GREY.astype(np.uint8))) == GREY[0].tolist()


@pytest.mark.parametrize(
    ("extra", "alpha", "expected"),
    [
        ([0], 0, "colour"),  # ExtraSamples: unspecified data
        ([0], 128, "colour"),
        ([2], 0, "white"),  # unassociated alpha
        (None, 0, "colour"),  # no tag, and nothing in the channel
        (None, 255, "colour"),
    ],
)
def test_a_fourth_channel_is_alpha_where_the_file_says_so(extra: list[int] | None, alpha: int, expected: str) -> None:
    pixels = np.full((8, 8, 4), (200, 100, 50, alpha), np.uint8)
    tags = {BITS: [8] * 4, INTERPRETATION: [2], SAMPLES: [4]} | ({EXTRA_SAMPLES: extra} if extra else {})

    shown = np.asarray(decode(tiff(tags, pixels)))[0, 0].tolist()

    assert shown == ([255, 255, 255] if expected == "white" else [200, 100, 50])


def test_a_picture_cut_into_very_many_strips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_module, "STRIPS_LIMIT", 4)

    with pytest.raises(UnidentifiedImageError, match="strips"):
        decode(tiff({BITS: [8], INTERPRETATION: [1], SAMPLES: [1]}, *[GREY.astype(np.uint8)] * 9))
