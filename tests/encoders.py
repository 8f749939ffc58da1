"""Encoders in numpy for tests: they start at once and depend on nothing but their input."""

import hashlib
from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

SIDE = 8


class TinyEncoder:
    """Pictures become their 8 x 8 thumbnail through a fixed projection, texts a vector seeded by their hash."""

    dim = 16
    modalities = frozenset({"image", "text"})
    fingerprint = hashlib.sha256(b"tests.encoders.TinyEncoder").hexdigest()
    device = "cpu"

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self._projection = generator.standard_normal((3 * SIDE * SIDE, self.dim)).astype(np.float32)

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        pixels = np.asarray(image.resize((SIDE, SIDE), PIL.Image.Resampling.BOX), np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1) / 255 - 0.5)

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = pixels.reshape(len(pixels), -1) @ self._projection + 0.01
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        return np.stack([np.random.default_rng(seed).standard_normal(self.dim) for seed in seeds]).astype(np.float32)


class PictureOnlyEncoder(TinyEncoder):
    """An encoder that takes no text."""

    modalities = frozenset({"image"})
    fingerprint = hashlib.sha256(b"tests.encoders.PictureOnlyEncoder").hexdigest()


class OtherEncoder(TinyEncoder):
    """Another encoder: vectors of it and of `TinyEncoder` cannot be compared."""

    fingerprint = hashlib.sha256(b"tests.encoders.OtherEncoder").hexdigest()
