"""Fetches, decodes and preprocesses one picture, and lets others see how far it is."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from transforms.encoders import Encoder
from transforms.errors import PixdexError
from transforms.pictures import decode
from transforms.pictures.budget import DecodeBudget, Share
from transforms.pictures.decode import Fit
from transforms.rejects import Failure
from transforms.tasks.embed import fetch

Prepared = tuple[NDArray[np.float32], tuple[int, int]]
"""What the encoder takes, and the upright (width, height) of the picture."""

BUDGET = DecodeBudget()
"""Memory of the pictures that all threads of this process decode."""


@dataclass(frozen=True)
class Way:
    """How pictures become what an encoder takes.

    Attributes:
        encoder: preprocesses.
        fit: what its square sees of a picture.
        target: see `target_side`; large pictures are shrunk while they are decoded.
        pixel_limit: pixels that a picture may declare.
        file_bytes: bytes that a file may have.
    """

    encoder: Encoder
    fit: Fit
    target: int | None
    pixel_limit: int
    file_bytes: int

    def decode(self, data: bytes, budget: DecodeBudget | Share) -> PIL.Image.Image:
        """Decodes the bytes of a file to the picture that is preprocessed; raises whatever `decode.decode` raises."""
        picture = decode.decode(data, pixel_limit=self.pixel_limit, target=self.target, mode=self.fit, budget=budget)
        return decode.fit(picture, self.fit)

    def prepare(self, picture: PIL.Image.Image) -> Prepared:
        """Preprocesses a decoded picture."""
        return self.encoder.preprocess(picture), picture.info["size"]


class Progress:
    """How far one picture is: a thread loads it, another waits for it and may lose its patience.

    Attributes:
        data: the file while it is decoded.
    """

    def __init__(self) -> None:
        """Not begun."""
        self._lock = threading.Lock()
        self._since: float | None = None
        self._share: Share | None = None
        self.data: bytes | None = None
        self.is_given_up = False

    def begin(self, share: Share | None = None, data: bytes | None = None) -> None:
        """Says that it is being fetched from now on, or that its file is being decoded, and what it holds."""
        with self._lock:
            self._since, self.data, self._share = time.monotonic(), data, share

    def end(self) -> None:
        """Says that no step takes time any more."""
        with self._lock:
            self._since = self.data = self._share = None

    def left(self, seconds: float) -> float:
        """Returns how long the step that it is at may go on, of so many seconds; all of them when there is none."""
        with self._lock:
            return seconds if self._since is None else self._since + seconds - time.monotonic()

    def give_up(self) -> bytes | None:
        """Gives up waiting for the thread, and its memory for lost. Returns the file, if it is there."""
        with self._lock:
            self.is_given_up = True
            if self._share is not None:
                self._share.release()
            return self.data


def load_picture(
    uri: str, way: Way, progress: Progress, guarded: Callable[[bytes], PIL.Image.Image | Failure] | None = None
) -> Prepared | Failure:
    """Fetches, decodes and preprocesses one picture.

    Args:
        uri: what to fetch.
        way: how it is prepared.
        progress: is told of every step.
        guarded: decodes a file in another process, and sees to its time; by default it is decoded here.

    Returns:
        What the encoder takes with the size; or why there is none.

    Raises:
        PixdexError: this machine cannot fetch it now, for example because it has too many files open.
    """
    stage = "fetch"
    try:
        progress.begin()
        located = fetch.locate(uri, way.file_bytes)
        progress.end()  # what is waited for now is none of this picture's time
        with BUDGET.take(located.size or 0) as share:
            progress.begin(share)
            data = fetch.read(uri, located, way.file_bytes)
            stage = "decode"
            if guarded is None:
                progress.begin(share, data)
                return way.prepare(way.decode(data, share))
            progress.end()
            picture = guarded(data)
            return picture if isinstance(picture, Failure) else way.prepare(picture)
    except PixdexError:
        raise
    except Exception as error:  # noqa: BLE001 - storage libraries and hostile files raise anything, a MemoryError too
        return Failure.of(stage, error)
    finally:
        progress.end()


def target_side(encoder: Encoder) -> int | None:
    """Returns the side in pixels of the square that an encoder sees, if it takes `(channels, height, width)`."""
    shape = encoder.preprocess(PIL.Image.new("RGB", (8, 8))).shape
    return max(shape[1:]) if len(shape) == 3 else None
