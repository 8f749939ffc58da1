"""Pictures that are drawn here, as files of any format, and how far two of them are from each other."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from tests.conftest import REPOSITORY

ODD = REPOSITORY.parent / "shared" / "data" / "odd-images"
needs_odd = pytest.mark.skipif(not ODD.is_dir(), reason=f"no collection of odd pictures at {ODD}")


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def drawn(width: int = 60, height: int = 40) -> Image.Image:
    """A different colour in each corner, so that every turn of it looks different."""
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, width // 2 - 1, height // 2 - 1), "red")
    pen.rectangle((width // 2, 0, width, height // 2 - 1), "lime")
    pen.rectangle((0, height // 2, width // 2 - 1, height), "blue")
    return image


def pixels(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def distance(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(pixels(one) - pixels(other)).mean())
