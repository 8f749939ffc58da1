"""An encoder of which texts lie apart from pictures, as those of CLIP do; pictures say in a pixel which they are."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

GROUPS = 300
GAP = 1.0
"""How far the mean of each kind is from that of both, beside vectors of length 1 about it."""


class GapEncoder:
    """The vector of item n: one of 300 groups, its own part, a noise of its kind, and the mean of its kind."""

    dim = 64
    modalities = frozenset({"image", "text"})
    fingerprint = hashlib.sha256(b"tests.benchmarks.instruments.gap_encoder").hexdigest()
    device = "cpu"

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self._groups = generator.standard_normal((GROUPS, self.dim)).astype(np.float32) / np.sqrt(self.dim)
        mean = generator.standard_normal(self.dim).astype(np.float32)
        self._mean = GAP * mean / np.linalg.norm(mean)

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        return np.asarray(image.getpixel((0, 0)), np.float32)

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        numbers = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        return np.stack([self._vector(int(number), 1) for number in numbers])

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._vector(int(text.rpartition(" ")[2] or 0), -1) for text in texts])

    def _vector(self, number: int, kind: int) -> NDArray[np.float32]:
        own = np.random.default_rng(number).standard_normal(self.dim)
        noise = np.random.default_rng((number, kind + 1)).standard_normal(self.dim)
        apart = (0.5 * own + 0.5 * noise) / np.sqrt(self.dim)
        vector: NDArray[np.float32] = (self._groups[number % GROUPS] + apart + kind * self._mean).astype(np.float32)
        return vector


def write_items(folder: Path, numbers: Sequence[int], name: str = "items.csv") -> Path:
    """Writes a picture for each number, and a CSV whose rows have it with a text."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = ["image,text"]
    for number in numbers:
        picture = PIL.Image.new("RGB", (4, 4), (number >> 16, number >> 8 & 255, number & 255))
        picture.save(folder / "pictures" / f"{number}.png")
        rows.append(f"pictures/{number}.png,item {number}")
    file = folder / name
    file.write_text("\n".join([*rows, ""]), encoding="utf-8")
    return file
