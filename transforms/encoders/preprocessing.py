"""A model's own torchvision preprocessing, by Pillow as its authors ran it, or faster."""

from collections.abc import Callable, Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torchvision.transforms import Normalize, ToTensor

from transforms.encoders.normalization import Normalization
from transforms.encoders.resizing import Resizing
from transforms.encoders.weights import resized_fingerprint


class Preprocessing:
    """One RGB picture → (3, height, width) float32. Safe to call from many threads.

    Attributes:
        is_fast: pictures are resized by `Resizing`, and not by the steps themselves.
    """

    def __init__(self, steps: Sequence[Callable[[object], object]], *, is_fast: bool = False) -> None:
        """`steps` work on PIL pictures, but for the last two: to a tensor, and normalised by mean and deviation.

        Steps that `Resizing` does not know are run as they are, fast or not.
        """
        self._all_steps = steps
        *self._steps, to_tensor, normalize = steps
        if not (isinstance(to_tensor, ToTensor) and isinstance(normalize, Normalize)):
            raise TypeError(f"preprocessing ends with {to_tensor}, {normalize}, and not with ToTensor and Normalize")
        self._normalize = Normalization(normalize.mean, normalize.std)
        self._resizing = Resizing.of(self._steps) if is_fast else None
        self.is_fast = self._resizing is not None

    def fingerprint(self, of_before: str) -> str:
        """Returns the fingerprint of an encoder with this preprocessing: that of before, if nothing differs from then.

        Args:
            of_before: the one with steps that Pillow does, which covers weights, dimension and what the steps do.
        """
        return resized_fingerprint(of_before) if self.is_fast else of_before

    def earlier(self) -> "Preprocessing":
        """Returns the same steps as Pillow does them."""
        return Preprocessing(self._all_steps)

    def __call__(self, image: PIL.Image.Image | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Resizes, crops and normalises one picture: RGB of Pillow, or an array (height, width, 3)."""
        return self._normalize(self._cropped(image))

    def _cropped(self, image: PIL.Image.Image | NDArray[np.uint8]) -> NDArray[np.generic]:
        if self._resizing is not None:
            return self._resizing(np.array(image) if isinstance(image, PIL.Image.Image) else image)
        picture: object = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
        for step in self._steps:
            picture = step(picture)
        return np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)
