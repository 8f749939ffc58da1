"""Every mode of Pillow arrives as 8-bit RGB on white, tile by tile as if at once."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import transforms.pictures.pixels
from transforms.pictures.pixels import to_rgb

COLOUR = (200, 100, 50)


def only_pixel(image: Image.Image) -> tuple[int, ...]:
    colours = to_rgb(image).getcolors()
    assert colours is not None
    assert len(colours) == 1
    return tuple(int(value) for value in np.ravel(colours[0][1]))


@pytest.mark.parametrize("mode", ["RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "P"])
def test_colour_survives_every_mode(mode: str) -> None:
    image = Image.new("RGB", (8, 8), COLOUR)
    image = image.quantize(4) if mode == "P" else _converted(image, mode)

    assert only_pixel(image) == pytest.approx(COLOUR, abs=3)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        from PIL import ImageCms  # noqa: PLC0415 - only here

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.applyTransform(image, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))  # type: ignore[return-value]  # None only for what is done in place
    return image.convert("RGBA").convert(mode) if mode == "RGBa" else image.convert(mode)


@pytest.mark.parametrize(("mode", "value"), [("1", 255), ("L", 90), ("LA", (90, 255)), ("La", (90, 255)), ("PA", None)])
def test_grey_survives_every_mode(mode: str, value: int | tuple[int, int] | None) -> None:
    image = Image.new(mode, (4, 4), value) if value else Image.new("L", (4, 4), 90).convert("P").convert("PA")
    expected = 255 if mode == "1" else 90

    assert only_pixel(image) == (expected,) * 3


@given(st.tuples(*[st.integers(0, 255)] * 4))
def test_alpha_is_laid_on_white(rgba: tuple[int, int, int, int]) -> None:
    *colour, alpha = rgba
    expected = [(value * alpha + 255 * (255 - alpha)) / 255 for value in colour]

    assert only_pixel(Image.new("RGBA", (1, 1), rgba)) == pytest.approx(expected, abs=0.51)


@given(st.integers(0, 255), st.integers(0, 255))
def test_grey_alpha_is_laid_on_white(grey: int, alpha: int) -> None:
    expected = [(grey * alpha + 255 * (255 - alpha)) / 255] * 3

    assert only_pixel(Image.new("LA", (1, 1), (grey, alpha))) == pytest.approx(expected, abs=0.51)


def test_premultiplied_alpha_is_laid_on_white() -> None:
    image = Image.new("RGBA", (2, 2), (*COLOUR, 128)).convert("RGBa")

    assert only_pixel(image) == pytest.approx([(value * 128 + 255 * 127) / 255 for value in COLOUR], abs=2)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_a_transparent_palette_entry_is_white(transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=transparency)

    assert np.asarray(to_rgb(Image.open(file))).tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (7, 8, 9)), ("I;16", 7000)])
def test_a_colour_declared_transparent_is_white(mode: str, clear: int | tuple[int, int, int]) -> None:
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((0, 0), clear)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=clear)

    assert np.asarray(to_rgb(Image.open(file))).tolist() == [[[255, 255, 255], [0, 0, 0]]]


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_grey_is_scaled_not_clipped(dtype: str) -> None:
    values = np.array([[0, 128, 257, 32768, 65535]], dtype)

    image = to_rgb(Image.fromarray(values))

    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_files_are_scaled(name: str) -> None:
    values = np.linspace(0, 65535, 256, dtype=np.uint16)[None]
    file = io.BytesIO()
    Image.fromarray(values).save(file, name)

    assert np.abs(np.asarray(to_rgb(Image.open(file)))[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=50), st.sampled_from(["<u2", ">u2", "<i4"]))
def test_scaling_keeps_the_order_of_greys(values: list[int], dtype: str) -> None:
    greys = np.asarray(to_rgb(Image.fromarray(np.array([sorted(values)], dtype))))[0, :, 0]

    assert (np.diff(greys.astype(int)) >= 0).all()
    assert np.abs(greys - np.array(sorted(values)) / 257).max() <= 0.51


def test_integers_beyond_16_bits_are_stretched() -> None:
    values = np.array([[-1000, 0, 1000]], np.int32)

    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 0.25, 0.5], [0, 64, 128]),
        ([-2.0, 0.0, 2.0], [0, 128, 255]),
        ([np.nan, 1.0, -np.inf], [0, 255, 0]),
        ([5.0, 5.0, 5.0], [0, 0, 0]),
        ([np.nan, np.inf, -np.inf], [0, 0, 0]),
    ],
)
def test_floats_are_shares_of_white_or_stretched(values: list[float], expected: list[int]) -> None:
    assert np.asarray(to_rgb(Image.fromarray(np.array([values], np.float32))))[0, :, 0].tolist() == expected


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 9), st.sampled_from(["L", "RGB", "RGBA", "P", "CMYK"]))
def test_tiles_give_what_the_whole_gives(width: int, height: int, factor: int, mode: str) -> None:
    values = np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 4), np.uint8)
    rgba = Image.fromarray(values)
    image = rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)
    whole = to_rgb(image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms.pictures.pixels, "_TILE", 16)
        shrunk = to_rgb(image, factor=factor)

    assert shrunk.tobytes() == (whole.reduce(factor) if factor > 1 else whole).tobytes()


def test_a_region_is_cut_before_it_is_averaged() -> None:
    image = Image.new("L", (10, 10), 0)
    image.paste(255, (3, 3, 7, 7))

    assert to_rgb(image, (3, 3, 7, 7), 4).getcolors() == [(1, (255, 255, 255))]


def test_the_source_is_not_changed() -> None:
    image = Image.new("RGBA", (3, 3), (1, 2, 3, 4))
    before = image.tobytes()

    to_rgb(image)

    assert (image.mode, image.tobytes()) == ("RGBA", before)
