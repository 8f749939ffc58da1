"""An encoder whose texts name a cluster and a number: a row near to that cluster's centre, the same in every process.

All numbers come of hashes, whole batches at a time, so that a hundred thousand rows are drawn in a second and any
cluster can be asked for, also one that no row was in before.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

DIM = 64
SPREAD = 0.6
"""Of a component about the centre, beside centres of standard deviation 1."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_CENTRES, _ROWS = np.uint64(1), np.uint64(2)


def text_of(cluster: int, number: int) -> str:
    """Returns the text of a row."""
    return f"cluster {cluster} row {number}"


def vectors_of(clusters: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns rows, float32 `(n, 64)`: components of centres and of rows fall off alike, as those of embeddings do."""
    falling = (np.arange(1, DIM + 1) ** -0.5).astype(np.float32)
    return (_normal(clusters, _CENTRES) + np.float32(SPREAD) * _normal(numbers, _ROWS)) * falling


def _normal(seeds: NDArray[np.int64], stream: np.uint64) -> NDArray[np.float32]:
    """Normal numbers, float32 `(n, 64)`, a row for each seed (splitmix64, then Box and Muller's)."""
    with np.errstate(over="ignore"):
        start = _mixed(seeds.astype(np.uint64) * np.uint64(4) + stream)[:, None]
        bits = _mixed(start + np.arange(1, 2 * DIM + 1, dtype=np.uint64) * _GOLDEN)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(uniform[:, :DIM])), 2 * np.pi * uniform[:, DIM:]
    normal: NDArray[np.float32] = (radius * np.cos(angle)).astype(np.float32)
    return normal


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


class DrawnEncoder:
    """Texts of `text_of`, as `vectors_of` draws them."""

    dim = DIM
    modalities = frozenset({"text"})
    fingerprint = hashlib.sha256(b"tests.benchmarks.nights.drawn_encoder 1").hexdigest()
    device = "cpu"

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        raise NotImplementedError  # it takes no pictures

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        words = [text.split() for text in texts]
        # A slot that only pads a batch has no text.
        asked = np.array([[int(word[1]), int(word[3])] if len(word) == 4 else [0, 0] for word in words], np.int64)
        return vectors_of(asked[:, 0], asked[:, 1])
