"""Alpha counts where the header says that it is alpha; where it says that it means nothing, colours are shown."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, PsdImagePlugin

from transforms.pictures.decode import decode

COLOUR = (200, 100, 50)
WHITE = (255, 255, 255)


def shown(data: bytes, target: int | None = None) -> tuple[int, ...]:
    """The one colour of a picture."""
    colours = decode(data, target=target).getcolors()
    assert colours is not None
    assert len(colours) == 1
    return tuple(int(value) for value in np.ravel(colours[0][1]))


def bgra(alpha: int, size: int = 8) -> bytes:
    return bytes([*COLOUR[::-1], alpha]) * size * size


# -- TGA


def tga(attribute_bits: int, alpha: int, extension: int | None = None) -> bytes:
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 8, 8, 32, 0x20 | attribute_bits)
    body = head + bgra(alpha)
    if extension is None:
        return body
    area = bytearray(495)
    area[:2] = struct.pack("<H", 495)
    area[494] = extension
    return body + bytes(area) + struct.pack("<II", len(body), 0) + b"TRUEVISION-XFILE.\0"


def test_alpha_of_a_tga_with_0_attribute_bits_means_nothing() -> None:
    assert shown(tga(0, 0)) == COLOUR
    assert shown(tga(0, 77)) == COLOUR
    assert shown(tga(0, 0), target=2) == COLOUR


def test_alpha_of_a_tga_with_8_attribute_bits_is_alpha() -> None:
    assert shown(tga(8, 0)) == WHITE
    assert shown(tga(8, 255)) == COLOUR


@pytest.mark.parametrize(("kind", "expected"), [(0, COLOUR), (1, COLOUR), (2, COLOUR), (3, WHITE)])
def test_the_extension_of_a_tga_says_whether_its_alpha_is_useful(kind: int, expected: tuple[int, ...]) -> None:
    assert shown(tga(8, 0, extension=kind)) == expected
    assert shown(tga(0, 0, extension=kind)) == expected


@pytest.mark.parametrize("bits", [0, 1])
def test_alpha_in_the_palette_of_a_tga_has_attribute_bits_too(bits: int) -> None:
    head = struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 0, 2, 16, 0, 0, 8, 8, 8, 0x20 | bits)
    red = struct.pack("<HH", 0, 0x8000 | 31 << 10)

    assert shown(head + red + b"\1" * 64) == (WHITE if bits else (255, 0, 0))


def test_grey_with_alpha_of_0_attribute_bits_is_grey() -> None:
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 3, 0, 0, 0, 0, 0, 8, 8, 16, 0x20)

    assert shown(head + b"\x50\0" * 64) == (0x50,) * 3


# -- BMP


def bmp(masks: tuple[int, int, int, int], alpha: int, header: int = 56) -> bytes:
    info = struct.pack("<IiiHHIIiiII", header, 8, -8, 1, 32, 3, 256, 0, 0, 0, 0) + struct.pack("<4I", *masks)
    return b"BM" + struct.pack("<IHHI", 14 + header + 256, 0, 0, 14 + header) + info[:header] + bgra(alpha)


BGR = (0xFF0000, 0xFF00, 0xFF)


def test_a_bmp_without_a_mask_of_alpha_has_none() -> None:
    assert shown(bmp((*BGR, 0), 0)) == COLOUR
    assert shown(bmp((0, 0, 0, 0), 0)) == COLOUR


def test_a_bmp_whose_alpha_is_0_everywhere_has_none_as_browsers_have_it() -> None:
    assert shown(bmp((*BGR, 0xFF000000), 0)) == COLOUR


def test_a_bmp_with_alpha_is_laid_on_white() -> None:
    data = bytearray(bmp((*BGR, 0xFF000000), 0))
    data[-1] = 255

    pixels = np.asarray(decode(bytes(data)))

    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[7, 7].tolist() == list(COLOUR)


# -- DDS


def dds(flags: int, masks: tuple[int, int, int, int], alpha: int) -> bytes:
    head = struct.pack("<7I44x", 124, 0x1007, 8, 8, 32, 0, 0)
    return b"DDS " + head + struct.pack("<8I20x", 32, flags, 0, 32, *masks) + bgra(alpha)


def dds_of_dx10(alpha_mode: int, alpha: int) -> bytes:
    head = struct.pack("<7I44x", 124, 0x1007, 8, 8, 32, 0, 0) + struct.pack("<8I", 32, 4, 0x30315844, 0, 0, 0, 0, 0)
    rgba = bytes([*COLOUR, alpha]) * 64
    return b"DDS " + head + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + struct.pack("<5I", 28, 3, 0, 1, alpha_mode) + rgba


def test_a_dds_without_alpha_pixels_has_no_alpha() -> None:
    assert shown(dds(0x40, (*BGR, 0xFF000000), 0)) == COLOUR
    assert shown(dds(0x41, (*BGR, 0), 0)) == COLOUR
    assert shown(dds(0x41, (*BGR, 0xFF000000), 0)) == WHITE


@pytest.mark.parametrize(("mode", "expected"), [(0, WHITE), (1, WHITE), (3, COLOUR), (4, COLOUR)])
def test_the_alpha_mode_of_a_dds_says_whether_it_is_alpha(mode: int, expected: tuple[int, ...]) -> None:
    assert shown(dds_of_dx10(mode, 0)) == expected


# -- PSD


def psd(layers: int | None, alpha: int) -> bytes:
    """A PSD of four channels; `layers` is the count in its layer section, which it need not have."""
    section = b"" if layers is None else struct.pack(">IhH", 4, layers, 0)
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 4, 8, 8, 8, 3) + struct.pack(">I", 0)
    planes = b"".join(bytes([value]) * 64 for value in (*COLOUR, alpha))
    return head + struct.pack(">II", 0, len(section)) + section + b"\0\0" + planes


def test_a_selection_saved_in_a_psd_is_no_transparency() -> None:
    assert shown(psd(None, 0)) == COLOUR
    assert shown(psd(1, 0)) == COLOUR


def test_a_negative_count_of_layers_says_that_a_psd_is_transparent() -> None:
    assert shown(psd(-1, 0)) == WHITE
    assert shown(psd(-1, 255)) == COLOUR


def test_pillow_still_takes_the_fourth_channel_for_alpha() -> None:
    assert PsdImagePlugin.PsdImageFile(io.BytesIO(psd(None, 0)), "").mode == "RGBA"


# -- ICO


def icon(pixels: bytes, mask: bytes, directory_bits: int = 32) -> bytes:
    dib = struct.pack("<IiiHHIIiiII", 40, 8, 16, 1, 32, 0, 0, 0, 0, 0, 0) + pixels + mask
    entry = struct.pack("<BBBBHHII", 8, 8, 0, 0, 1, directory_bits, len(dib), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + dib


SEEN, HIDDEN = bytes(32), b"\xff\0\0\0" * 8


@pytest.mark.parametrize("directory_bits", [0, 32])
def test_an_icon_whose_alpha_is_0_everywhere_has_its_mask(directory_bits: int) -> None:
    assert shown(icon(bgra(0), SEEN, directory_bits)) == COLOUR
    assert shown(icon(bgra(0), HIDDEN, directory_bits)) == WHITE


@pytest.mark.parametrize("directory_bits", [0, 32])
def test_an_icon_with_alpha_needs_no_mask(directory_bits: int) -> None:
    assert shown(icon(bgra(255), b"", directory_bits)) == COLOUR
    assert shown(icon(bgra(0), b"", directory_bits)) == COLOUR
    half = icon(
        bgra(0)[:-4] + bytes([*COLOUR[::-1], 255]), HIDDEN, directory_bits
    )  # the last pixel is at the top right
    assert np.asarray(decode(half))[0, :, 2].tolist() == [255] * 7 + [COLOUR[2]]


def test_the_mask_of_an_icon_stands_on_its_head_like_its_pixels() -> None:
    mask = b"\xff\0\0\0" * 2 + bytes(24)

    assert (np.asarray(decode(icon(bgra(0), mask)))[:, 0, 2] == 255).tolist() == [False] * 6 + [True] * 2


# -- what is alpha stays alpha


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TGA", "QOI", "DDS", "TIFF", "ICO", "SGI", "JPEG2000", "AVIF"])
def test_what_is_transparent_stays_white(name: str) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (16, 16), (*COLOUR, 0)).save(file, name)

    assert shown(file.getvalue()) == WHITE
