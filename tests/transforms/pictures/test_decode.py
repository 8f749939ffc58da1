"""What `decode` and `fit` promise, on pictures drawn here and on a collection of odd ones where that is at hand."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from tests.transforms.pictures.drawn import ODD, distance, drawn, encoded, needs_odd, pixels
from tests.work import at_most
from transforms.pictures.decode import PICTURE_ENDINGS, PictureTooLargeError, decode, fit


def turned(image: Image.Image, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The picture as a camera stores it that notes this orientation."""
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[274] = orientation
    return (image.transpose(stored[orientation]) if orientation in stored else image), exif


# -- formats


@pytest.mark.parametrize(
    "name", ["PNG", "BMP", "TIFF", "TGA", "PPM", "QOI", "GIF", "PCX", "SGI", "DDS", "ICO", "WEBP", "JPEG2000"]
)
def test_formats_without_loss_give_the_pixels_that_were_drawn(name: str) -> None:
    image = drawn(32, 32)
    options = {"lossless": True} if name == "WEBP" else {"sizes": [(32, 32)]} if name == "ICO" else {}

    assert distance(decode(encoded(image, name, **options)), image) == 0


@pytest.mark.parametrize("name", ["JPEG", "AVIF"])
def test_formats_with_loss_come_close(name: str) -> None:
    assert distance(decode(encoded(drawn(), name, quality=95)), drawn()) < 4


def test_adobe_cmyk_is_not_inverted() -> None:
    assert distance(decode(encoded(drawn().convert("CMYK"), "JPEG", quality=95)), drawn()) < 6


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_animation_is_its_first_frame(name: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]

    image = decode(encoded(frames[0], name, save_all=True, append_images=frames[1:]))

    assert distance(image, frames[0]) < 4


def test_the_result_holds_neither_metadata_nor_the_file() -> None:
    exif = Image.Exif()
    exif[270] = "a description"

    image = decode(encoded(drawn(), "JPEG", exif=exif, comment=b"hello", icc_profile=b"x" * 200))

    assert type(image) is Image.Image
    assert image.info == {"size": (60, 40)}


def test_programs_and_other_files_are_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was asked")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)

    with pytest.raises(UnidentifiedImageError):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


def test_endings_are_lower_case_and_belong_to_formats_that_are_read() -> None:
    assert all(ending == ending.lower() and ending.startswith(".") for ending in PICTURE_ENDINGS)
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".avif"} <= PICTURE_ENDINGS
    assert not PICTURE_ENDINGS & {".hdr", ".exr", ".ff", ".eps", ".svg", ".txt", ".json", ".csv", ".pdf"}


# -- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(name: str, orientation: int) -> None:
    stored, exif = turned(drawn(), orientation)

    image = decode(encoded(stored, name, exif=exif, **({"quality": 95} if name in {"JPEG", "WEBP"} else {})))

    assert distance(image, drawn()) < 6
    assert image.info["size"] == (60, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_a_jpeg_that_is_shrunk_while_decoding(orientation: int) -> None:
    stored, exif = turned(drawn(1200, 800), orientation)

    image = decode(encoded(stored, "JPEG", exif=exif, quality=95), target=50)

    assert distance(image, drawn(1200, 800).resize(image.size, Image.Resampling.BOX)) < 6
    assert image.size == (150, 100)
    assert image.info["size"] == (1200, 800)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*"])
def test_broken_exif_does_not_lose_the_picture(exif: bytes) -> None:
    assert decode(encoded(drawn(), "JPEG", exif=exif)).size == (60, 40)


@needs_odd
@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
@pytest.mark.parametrize("target", [None, 64])
def test_the_same_photograph_in_every_orientation_is_the_same_picture(shape: str, target: int | None) -> None:
    files = [ODD / "exif-orientation" / f"{shape}_{orientation}.jpg" for orientation in range(9)]
    first, *others = (decode(file.read_bytes(), target=target) for file in files)
    assert (first.width > first.height) == (shape == "Landscape")

    for other in others:
        small = [image.resize((90, 60)) for image in (first, other)]
        assert distance(*small) < 12  # each is stored with a numeral of its own, drawn in the middle


# -- limits and refusals


def png_that_declares(width: int, height: int) -> bytes:
    """A PNG whose header, with a right checksum, lies about its size."""
    data = bytearray(encoded(drawn(), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_a_picture_over_the_limit_is_refused_from_its_header_with_value_and_limit() -> None:
    too_large = r"100000 x 90000 = 9000000000 pixels, the limit is 179000000"
    with at_most(10_000), pytest.raises(PictureTooLargeError, match=too_large):
        decode(png_that_declares(100_000, 90_000))


def test_the_limit_itself_is_allowed() -> None:
    assert decode(encoded(drawn(), "PNG"), pixel_limit=2400).size == (60, 40)
    with pytest.raises(PictureTooLargeError):
        decode(encoded(drawn(), "PNG"), pixel_limit=2399)


def test_the_picture_inside_an_icon_counts_not_what_the_icon_says() -> None:
    icon = bytearray(encoded(drawn(32, 32), "ICO", sizes=[(32, 32)]))
    icon[22:] = png_that_declares(5000, 4000)

    with pytest.raises(PictureTooLargeError, match="20000000"):
        decode(bytes(icon), pixel_limit=1_000_000)


def test_pillows_own_limit_neither_refuses_nor_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)

    assert decode(encoded(drawn(1000, 1000), "PNG")).size == (1000, 1000)
    assert Image.MAX_IMAGE_PIXELS == 100_000


@pytest.mark.parametrize("size", [(0, 0), (0, 7), (7, 0)])
@pytest.mark.parametrize("name", ["PNG", "GIF"])
def test_a_picture_without_pixels_is_an_error(name: str, size: tuple[int, int]) -> None:
    if name == "PNG":
        data = png_that_declares(*size)
    else:
        data = b"GIF89a" + b"".join(side.to_bytes(2, "little") for side in size) + b"\0\0\0;"
    with pytest.raises((ValueError, OSError, EOFError)):
        decode(data)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "QOI", "PPM", "JPEG2000", "AVIF"])
def test_a_truncated_file_is_an_error(name: str) -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    data = encoded(noise, name)

    with pytest.raises(Exception):  # noqa: B017 - Pillow raises what it likes
        decode(data[: len(data) * 2 // 3])


@given(
    st.binary(max_size=64), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"\xff\xd8\xff"])
)
def test_rubbish_is_an_error(rubbish: bytes, beginning: bytes) -> None:
    try:
        decode(beginning + rubbish, pixel_limit=10_000)
    except Exception as error:  # noqa: BLE001 - any exception is a reject; a hang or a crash is not
        assert str(error)


def test_a_file_that_begins_like_a_format_is_refused_in_its_name() -> None:
    with pytest.raises(UnidentifiedImageError, match="PNG"):
        decode(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0junk")


# -- shrinking


@pytest.mark.parametrize("name", ["JPEG", "PNG", "JPEG2000", "WEBP"])
@pytest.mark.parametrize("size", [(1000, 700), (700, 1000), (449, 448), (447, 900), (3001, 600), (100, 30)])
def test_shrinking_leaves_at_least_twice_the_target_on_the_short_side(name: str, size: tuple[int, int]) -> None:
    full = drawn(*size)

    image = decode(encoded(full, name, **({} if name in {"PNG", "JPEG2000"} else {"quality": 95})), target=50)

    assert min(*size, 100) <= min(image.size) <= 200
    assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)
    assert distance(image, full.resize(image.size, Image.Resampling.BOX)) < 8
    assert image.info["size"] == size


@pytest.mark.parametrize("levels", [1, 2, 6])
@pytest.mark.parametrize("no_jp2", [False, True])
def test_a_jpeg_2000_shrinks_whether_or_not_it_holds_its_half(levels: int, no_jp2: bool) -> None:
    full = drawn(1000, 500)

    image = decode(encoded(full, "JPEG2000", num_resolutions=levels, no_jp2=no_jp2), target=62)

    assert image.size == (250, 125)
    assert distance(image, full.resize(image.size, Image.Resampling.BOX)) < 2


def test_for_padding_the_long_side_counts() -> None:
    assert decode(encoded(drawn(3000, 300), "PNG"), target=50, mode="pad").size == (100, 10)
    assert decode(encoded(drawn(3000, 300), "PNG"), target=50, mode="crop").size == (1000, 100)


def test_of_a_strip_that_will_be_cropped_only_the_middle_is_kept() -> None:
    strip = Image.new("RGB", (100_000, 10), "red")
    strip.paste("blue", (49_920, 0, 50_080, 10))

    image = decode(encoded(strip, "PNG"), target=224)

    assert image.size == (160, 10)
    assert image.getcolors() == [(1600, (0, 0, 255))]
    assert image.info["size"] == (100_000, 10)


@pytest.mark.parametrize("progressive", [False, True])
def test_decoding_twice_gives_the_same_pixels(progressive: bool) -> None:
    data = encoded(Image.effect_noise((900, 700), 60).convert("RGB"), "JPEG", progressive=progressive)

    assert decode(data, target=64).tobytes() == decode(data, target=64).tobytes()


# -- fit


def test_crop_leaves_the_picture_to_the_encoder() -> None:
    image = drawn()
    assert fit(image, "crop") is image


@given(st.integers(1, 90), st.integers(1, 90))
def test_pad_centres_the_untouched_picture_in_a_white_square(width: int, height: int) -> None:
    image = Image.effect_noise((width, height), 60).convert("RGB")

    square = fit(image, "pad")

    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    assert square.size == (side, side)
    assert square.crop((left, top, left + width, top + height)).tobytes() == image.tobytes()
    assert pixels(square).sum() == pixels(image).sum() + 3 * 255 * (side * side - width * height)


def test_a_strip_too_long_to_pad_is_refused() -> None:
    with pytest.raises(PictureTooLargeError, match="decode it with a target size"):
        fit(Image.new("RGB", (100_000, 10)), "pad")
