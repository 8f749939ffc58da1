"""What an encoder is: the one interface between the batch jobs and any model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import PIL.Image


class Encoder(Protocol):
    """Turns RGB pictures and texts into vectors of one space (float32, not normalised by the encoder).

    Bring your own as `module:Class`: any class with these members whose constructor needs no argument. Among batches of
    one size, the vector of a slot must not depend on what the other slots hold: jobs pad their batches and rely on it.

    Attributes:
        dim: components of a vector.
        modalities: what it encodes, a subset of {"image", "text"}; the methods of the others are never called.
        fingerprint: sha256 in hex over weights, preprocessing and dim, and not over device, dtype or batch size:
            encoders with one fingerprint may index and search the same root.
        device: where it computes, for instance "cpu" or "cuda:0".
    """

    dim: int
    modalities: frozenset[str]
    fingerprint: str
    device: str

    def preprocess(self, image: "PIL.Image.Image") -> NDArray[np.float32]:
        """One RGB picture of any size → an array of one fixed shape. Called from many threads at once."""

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *shape) preprocessed pictures → (n, dim)."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n strings → (n, dim). What exceeds the model's context is cut off at its end."""


@runtime_checkable
class TakesPixels(Protocol):
    """What an encoder has besides that takes pictures as arrays, which saves making a picture of Pillow of each."""

    def preprocess_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(height, width, 3), RGB, contiguous → what `preprocess` makes of the same picture. For many threads."""


@runtime_checkable
class HasEarlier(Protocol):
    """What an encoder has besides whose preprocessing was another one once: roots of then go on with that."""

    def earlier(self) -> Encoder:
        """The same model with the preprocessing of then, and its fingerprint; texts have the same vectors."""


@runtime_checkable
class CleansTexts(Protocol):
    """What an encoder has besides that cleans texts before it reads them: one of which nothing is left is a reject.

    Without it, the vectors of such texts are all the same, and near to each other for no reason.
    """

    def are_blank(self, texts: Sequence[str]) -> list[bool]:
        """Tells of each text whether nothing is left of it."""
