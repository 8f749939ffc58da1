"""Fetches, decodes and preprocesses one picture, and lets others see how far it is."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from transforms.encoders import Encoder, TakesPixels
from transforms.errors import PixdexError
from transforms.pictures import decode
from transforms.pictures.budget import Budget, DecodeBudget, Share
from transforms.pictures.decode import Fit
from transforms.rejects import Failure
from transforms.storage.uris import Located
from transforms.tasks.embed import fetch
from transforms.tasks.embed.limits import ItemLimits
from transforms.tasks.embed.spent import Clock
from transforms.web.costs import MoreRoomError

Prepared = tuple[NDArray[np.float32], tuple[int, int]]
"""What the encoder takes, and the upright (width, height) of the picture."""

Locate = Callable[[str, int], Located | None]
"""Finds a picture by its URI, of so many bytes at most, as `fetch.locate` does; not one on the web."""

BUDGET = DecodeBudget()
"""Memory of the pictures that all threads of this process decode."""


UNKNOWN_BYTES = 32 << 20
"""Taken of the budget for a file whose storage does not say how many it has."""

WEB_BYTES = 8 << 20
"""Taken of the budget for a file on the web; one that turns out to be larger is fetched again, with room for it."""


@dataclass(frozen=True)
class Way:
    """How pictures become what an encoder takes.

    Attributes:
        encoder: preprocesses.
        fit: what its square sees of a picture.
        target: see `target_side`; large pictures are shrunk while they are decoded.
        pixel_limit: pixels that a picture may declare.
        limits: what it may cost.
        clock: is told what each part takes.
    """

    encoder: Encoder
    fit: Fit
    target: int | None
    pixel_limit: int
    limits: ItemLimits
    clock: Clock = field(default_factory=Clock)

    def load(self, data: bytes, budget: Budget) -> Prepared:
        """Decodes and preprocesses the bytes of a file; raises whatever `decode.decode` raises."""
        if self.fit == "crop" and isinstance(self.encoder, TakesPixels):
            with self.clock.working("decode"):
                pixels, size = decode.decode_pixels(
                    data, pixel_limit=self.pixel_limit, target=self.target, budget=budget
                )
            with self.clock.working("preprocess"):
                return self.encoder.preprocess_pixels(pixels), size
        with self.clock.working("decode"):
            whole = decode.decode(data, pixel_limit=self.pixel_limit, target=self.target, mode=self.fit, budget=budget)
            picture = decode.fit(whole, self.fit)
        return self.prepare(picture)

    def prepare(self, picture: PIL.Image.Image) -> Prepared:
        """Preprocesses a decoded picture."""
        with self.clock.working("preprocess"):
            return self.encoder.preprocess(picture), picture.info["size"]


class GivenUpError(Exception):
    """Nobody waits for this picture any more: its thread ends."""


class Progress:
    """How far one picture is: a thread loads it, another waits for it and may lose its patience.

    The clock runs while it is fetched, and anew while it is decoded; it stands while memory is waited for, or the turn
    at a host of the web.

    Attributes:
        data: the file while it is decoded, and from then on if it was given up.
        is_given_up: nobody waits any more.
    """

    def __init__(self) -> None:
        """Not begun."""
        self._lock = threading.Lock()
        self._since: float | None = None
        self._spent = 0.0
        self._share: Share | None = None
        self.data: bytes | None = None
        self.is_given_up = False

    def begin(self, data: bytes | None = None) -> None:
        """Says that it is being fetched from now on, or that its file is being decoded.

        Raises:
            GivenUpError: as all below.
        """
        with self._going_on():
            self._since, self._spent, self.data = time.monotonic(), 0.0, data

    def pause(self) -> None:
        """Stops the clock: what is waited for now is not this picture's doing."""
        with self._going_on():
            self._spent += 0.0 if self._since is None else time.monotonic() - self._since
            self._since = None

    def go_on(self, share: Share) -> None:
        """Lets the clock run again; `share` is what the picture holds of the budget."""
        with self._going_on():
            self._since, self._share = time.monotonic(), share

    def spent(self) -> float:
        """Returns the seconds that its step has taken up to now."""
        with self._lock:
            return self._spent + (0.0 if self._since is None else time.monotonic() - self._since)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Stops the clock for the time of the block."""
        self.pause()
        try:
            yield
        finally:
            with self._going_on():
                self._since = time.monotonic()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Takes more of the budget for the time of the block; as `Share.take`, and nobody's time meanwhile."""
        share = self._share
        assert share is not None
        self.pause()
        with share.take(amount):
            self.go_on(share)
            yield

    def end(self) -> None:
        """Says that it is done; from then on it cannot be given up, and its file is kept for a last try only."""
        with self._lock:
            self._since = self._share = None
            if not self.is_given_up:
                self.data = None

    def give_up(self, seconds: float = 0.0) -> bool:
        """Gives up waiting for the thread, and what it holds for lost, if its step has taken so many seconds.

        Returns:
            Whether it did so now.
        """
        with self._lock:
            if self.is_given_up or self._since is None or self._spent + time.monotonic() - self._since < seconds:
                return False
            self.is_given_up = True
            if self._share is not None:
                self._share.release()
            return True

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        with self._lock:
            if self.is_given_up:
                raise GivenUpError
            yield


def load_picture(
    uri: str,
    way: Way,
    progress: Progress,
    guarded: Callable[[bytes], PIL.Image.Image | Failure] | None = None,
    locate: Locate = fetch.locate,
) -> Prepared | Failure:
    """Fetches, decodes and preprocesses one picture.

    Args:
        uri: what to fetch.
        way: how it is prepared.
        progress: is told of every step.
        guarded: decodes a file in another process, and sees to its time; by default it is decoded here.
        locate: finds the file.

    Returns:
        What the encoder takes with the size; or why there is none.

    Raises:
        PixdexError: this machine cannot fetch it now, for example because it has too many files open.
    """
    stage = "fetch"
    try:
        with ExitStack() as held:
            progress.begin()
            with way.clock.passing("fetch"):
                fetched = _fetched(uri, way.limits, progress, held, locate)
            if isinstance(fetched, Failure):
                return fetched
            stage = "decode"
            if guarded is None:
                progress.begin(fetched)
                return way.load(fetched, progress)
            progress.pause()
            with way.clock.passing("decode"):
                picture = guarded(fetched)
            progress.begin()
            return picture if isinstance(picture, Failure) else way.prepare(picture)
    except PixdexError:
        raise
    except Exception as error:  # noqa: BLE001 - storage libraries and hostile files raise anything, a MemoryError too
        return Failure.of(stage, error)
    finally:
        progress.end()


def _fetched(uri: str, limits: ItemLimits, progress: Progress, held: ExitStack, locate: Locate) -> bytes | Failure:
    """Returns the file of a picture, or why there is none; what it takes of the budget goes back when `held` closes.

    What a file on the web takes is taken before its host is asked, so that nobody who has a turn there waits for
    memory, which may be held by somebody who waits for that turn.
    """
    if (refused := fetch.refusal(uri, limits)) is not None:
        return refused
    located = locate(uri, limits.file_bytes)
    progress.pause()
    amount = WEB_BYTES if located is None else UNKNOWN_BYTES if located.size is None else located.size
    share = held.enter_context(BUDGET.take(amount))
    progress.go_on(share)
    if located is not None:
        return fetch.read(uri, located, limits.file_bytes)
    while True:
        try:
            return fetch.from_web(uri, limits, progress, amount)
        except MoreRoomError as more:
            held.enter_context(progress.take(more.bytes - amount))
            amount = more.bytes


def target_side(encoder: Encoder) -> int | None:
    """Returns the side in pixels of the square that an encoder sees, if it takes `(channels, height, width)`."""
    shape = encoder.preprocess(PIL.Image.new("RGB", (8, 8))).shape
    return max(shape[1:]) if len(shape) == 3 else None
