"""What is decoded straight to an array is what Pillow decodes, and what Pillow refuses is refused."""

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.transforms.pictures.drawn import drawn, encoded
from transforms.pictures import decode, jpeg


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(
        0, 256, (height // 3 + 1, width // 3 + 1, 3), np.uint8
    )
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def outcome(data: bytes, target: int | None, *, as_array: bool) -> object:
    """Pixels and size, or what is raised, in words."""
    try:
        if as_array:
            pixels, size = decode.decode_pixels(data, target=target)
            return pixels.shape, pixels.tobytes(), size
        image = decode.decode(data, target=target)
    except Exception as error:  # noqa: BLE001 - compared
        return type(error), str(error)
    return (image.height, image.width, 3), image.tobytes(), image.info["size"]


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 9),
    st.sampled_from([None, 3, 7, 20]),
    st.booleans(),
)
def test_plain_files_have_pillows_pixels(
    width: int, height: int, subsampling: int, progressive: bool, turn: int, target: int | None, restarts: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"subsampling": subsampling, "progressive": progressive, "exif": exif.tobytes(), "quality": 50 + 5 * turn}
    data = encoded(noise(width, height), "JPEG", **options, restart_marker_blocks=2 if restarts else 0)

    assert jpeg.pixels(opened(data), data) is not None
    assert outcome(data, target, as_array=True) == outcome(data, target, as_array=False)


@given(st.integers(0, 10_000), st.integers(1, 3), st.booleans(), st.sampled_from([None, 7]))
def test_damaged_and_truncated_files_end_as_with_pillow(
    seed: int, count: int, progressive: bool, target: int | None
) -> None:
    rng = random.Random(seed)
    data = bytearray(encoded(noise(60, 44), "JPEG", progressive=progressive))
    for _ in range(count):
        data[rng.randrange(2, len(data))] = rng.choice((0, 0xFF, rng.randrange(256)))
    broken = bytes(data[: rng.randrange(len(data))]) if seed % 3 == 0 else bytes(data)

    assert outcome(broken, target, as_array=True) == outcome(broken, target, as_array=False)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("target", [None, 5])
def test_other_colours_are_left_to_pillow(mode: str, target: int | None) -> None:
    data = encoded(drawn().convert(mode), "JPEG")

    assert jpeg.pixels(opened(data), data) is None
    assert outcome(data, target, as_array=True) == outcome(data, target, as_array=False)


@pytest.mark.parametrize("size", [(60, 40), (400, 8), (8, 400), (700, 620)])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_strips_large_pictures_and_other_formats_come_the_same(name: str, size: tuple[int, int]) -> None:
    data = encoded(noise(*size), name)

    assert outcome(data, 8, as_array=True) == outcome(data, 8, as_array=False)


@pytest.mark.parametrize("cut", [1, 2, 200])
def test_a_file_without_its_end_is_left_to_pillow(cut: int) -> None:
    data = encoded(noise(60, 44), "JPEG")[:-cut]

    assert jpeg.pixels(opened(data), data) is None


def test_colours_stored_as_rgb_have_pillows_pixels() -> None:
    data = encoded(noise(60, 44), "JPEG", keep_rgb=True)

    assert outcome(data, None, as_array=True) == outcome(data, None, as_array=False)


def test_the_limit_of_pixels_holds() -> None:
    with pytest.raises(decode.PictureTooLargeError, match="the limit is 100"):
        decode.decode_pixels(encoded(drawn(), "JPEG"), pixel_limit=100)
