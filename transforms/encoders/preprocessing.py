"""Runs a model's own torchvision preprocessing with its last two steps, to floats and normalised, in numpy.

The values are bit for bit torchvision's. But torch computes those steps with its intra-op threads, and each thread of a
decoding pool starts a set of them: 16 threads preprocessed 208 pictures a second on two cores so, and 307 in numpy.
"""

from collections.abc import Callable, Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torchvision.transforms import Normalize, ToTensor

_FULL_SCALE = np.float32(255)


class Preprocessing:
    """One RGB picture → (3, height, width) float32. Safe to call from many threads."""

    def __init__(self, steps: Sequence[Callable[[object], object]]) -> None:
        """`steps` work on PIL pictures, but for the last two: to a tensor, and normalised by mean and deviation."""
        *self._steps, to_tensor, normalize = steps
        if not (isinstance(to_tensor, ToTensor) and isinstance(normalize, Normalize)):
            raise TypeError(f"preprocessing ends with {to_tensor}, {normalize}, and not with ToTensor and Normalize")
        self._mean = np.array([float(mean) for mean in normalize.mean], dtype=np.float32)[:, None, None]
        self._deviation = np.array([float(deviation) for deviation in normalize.std], dtype=np.float32)[:, None, None]

    def __call__(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        """Resizes, crops and normalises one picture."""
        picture: object = image
        for step in self._steps:
            picture = step(picture)
        pixels = np.ascontiguousarray(np.asarray(picture, dtype=np.float32).transpose(2, 0, 1))
        pixels /= _FULL_SCALE
        pixels -= self._mean
        pixels /= self._deviation
        return pixels
