"""Loads the pictures of a partition, several at a time and ahead of the encoder, each within its time.

A thread cannot be ended. One that takes too long is left to itself, so that another takes its place, and the picture
gets a last try in a process that can be (`transforms.pictures.guard`). Where an attempt before ended its process, all
pictures are decoded in such processes from the first.
"""

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from transforms.encoders import Encoder
from transforms.errors import PixdexError
from transforms.pictures.budget import BATCHES_AHEAD
from transforms.pictures.guard import Guard, How
from transforms.records import EncoderSettings
from transforms.rejects import Failure
from transforms.storage import addresses
from transforms.tasks.embed import fetch
from transforms.tasks.embed.limits import FETCH_THREADS, ItemLimits
from transforms.tasks.embed.load_picture import Locate, Prepared, Progress, Way, load_picture, target_side
from transforms.tasks.embed.spent import Clock

WEB_THREADS = 32
"""The same where some are on the web, whose hosts take longer, or have few turns."""

FIRST_THREADS: Final = max(2, os.cpu_count() or 1)
"""Threads that a loader begins with: each more takes the interpreter from the encoder, whose every step asks for it."""

_WAITED: Final = 0.1
"""Share of the time of a batch that the encoder waits for it, from which on more threads load the next ones."""

GUARDED_AT_ONCE: Final = 2
"""Pictures decoded at once in processes of their own, whose memory no budget counts."""


_LOOK_SECONDS: Final = 1.0
"""Whoever waits for a picture looks so often for those behind it that are late."""

LOST_THREADS: Final = 64
"""Threads that one loader leaves to themselves: with more, it is not the pictures that are at fault."""


@dataclass
class _Picture:
    """One picture, and the thread that has taken it."""

    uri: str
    thread: threading.Thread | None = None
    loaded: Future[Prepared | Failure] = field(default_factory=Future)
    progress: Progress = field(default_factory=Progress)


class PictureLoader:
    """Loads pictures with threads of its own; use as a context.

    Args:
        encoder, settings: how pictures are preprocessed.
        limits: what one picture may cost.
        locate: finds pictures by their URIs.
        clock: is told what each part takes.
        is_guarded: every picture is decoded in another process: slower, by what starting two of them takes, and by
            the number of threads that decode otherwise.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: EncoderSettings,
        limits: ItemLimits,
        locate: Locate = fetch.locate,
        *,
        clock: Clock | None = None,
        is_guarded: bool = False,
    ) -> None:
        """Starts nothing yet."""
        self._clock = clock or Clock()
        target = target_side(encoder)
        self._way = Way(encoder, settings.image_fit, target, settings.pixel_limit, limits, self._clock)
        self._how = How(settings.pixel_limit, target, settings.image_fit, limits.seconds)
        self._seconds, self._wanted_threads, self._locate = limits.seconds, limits.threads, locate
        self._is_guarded = is_guarded
        self._last_try = Guard(self._how)
        self._queue: queue.SimpleQueue[_Picture | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ahead: deque[tuple[int, list[_Picture]]] = deque()
        self._lost = 0
        self._since = 0.0

    def __enter__(self) -> "PictureLoader":
        """Starts the threads."""
        self._start(GUARDED_AT_ONCE if self._is_guarded else self._wanted_threads or min(FIRST_THREADS, FETCH_THREADS))
        self._since = time.monotonic()
        return self

    def __exit__(self, error: type[BaseException] | None, *how: object) -> None:
        """Ends the threads; after an error, without waiting for pictures that nobody will look at."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        for _ in self._threads:
            self._queue.put(None)
        if error is None:
            for thread in self._threads:
                thread.join()
        else:
            for picture in self._in_flight():
                picture.progress.give_up()
        self._last_try.close()

    def batches(self, uris: Sequence[str], size: int) -> Iterator[tuple[int, list[Prepared | Failure]]]:
        """Yields (start, loaded) of every batch of so many pictures, in order, while the next ones are being loaded.

        Raises:
            PixdexError: this machine, or the storage of very many pictures, is at fault and not the pictures.
        """
        if not self._wanted_threads and not self._is_guarded and any(map(addresses.is_web, uris)):
            self._start(WEB_THREADS)
        for start in range(0, len(uris), size):
            pictures = [_Picture(uri) for uri in uris[start : start + size]]
            self._ahead.append((start, pictures))
            for picture in pictures:
                self._queue.put(picture)
            if len(self._ahead) > BATCHES_AHEAD:
                yield self._first()
        while self._ahead:
            yield self._first()

    def _first(self) -> tuple[int, list[Prepared | Failure]]:
        """Waits for the first batch of those ahead, and takes it from them."""
        start, pictures = self._ahead[0]
        began = time.monotonic()
        with self._clock.passing("wait"):
            loaded = [self._wait(picture) for picture in pictures]
        now = time.monotonic()
        is_late = start > 0 and now - began > _WAITED * (now - self._since)  # the first is waited for anyhow
        if is_late and not self._wanted_threads and not self._is_guarded:
            self._start(min(2 * len(self._threads), FETCH_THREADS))
        self._since = now
        self._ahead.popleft()
        return start, loaded

    def _wait(self, picture: _Picture) -> Prepared | Failure:
        """Waits for a picture until it is there or has had its time; gives up those behind it that are late, too.

        One of these may hold the memory that this picture waits for.
        """
        while not picture.progress.is_given_up:
            try:
                return picture.loaded.result(min(_LOOK_SECONDS, self._seconds))
            except TimeoutError:
                for late in self._in_flight():
                    if late.progress.give_up(self._seconds):
                        self._replace(late)
        data = picture.progress.data
        if data is None:
            return fetch.LATE
        decoded = self._last_try.decode(data)
        if isinstance(decoded, Failure):
            return decoded
        try:
            return self._way.prepare(decoded)
        except Exception as error:  # noqa: BLE001 - as `load_picture` takes it
            return Failure.of("decode", error)

    def _in_flight(self) -> Iterator[_Picture]:
        return (picture for _, pictures in self._ahead for picture in pictures if not picture.loaded.done())

    def _replace(self, late: _Picture) -> None:
        """Leaves the thread of a late picture to itself and starts another, which is guarded if a decoder hangs."""
        assert late.thread is not None  # it began, or it could not be late
        self._threads.remove(late.thread)
        self._lost += 1
        if self._lost > LOST_THREADS:
            raise PixdexError(
                f"{self._lost} pictures took longer than --item-timeout, the last of them {late.uri}: see whether "
                "their storage answers, then run the same command again to go on from here; or give them more time"
            )
        self._add_thread(is_guarded=self._is_guarded or late.progress.data is not None)

    def _start(self, threads: int) -> None:
        while len(self._threads) < threads:
            self._add_thread(is_guarded=self._is_guarded)
        self._clock.connections = len(self._threads)

    def _add_thread(self, *, is_guarded: bool) -> None:
        # Not of a pool of the standard library: Python waits for the threads of those before it ends.
        thread = threading.Thread(target=self._work, args=(is_guarded,), name="fetch", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self, is_guarded: bool) -> None:
        guard = Guard(self._how) if is_guarded else None
        guarded = None if guard is None else guard.decode
        try:
            while (picture := self._queue.get()) is not None:
                picture.thread = threading.current_thread()
                try:
                    loaded = load_picture(picture.uri, self._way, picture.progress, guarded, self._locate)
                except BaseException as error:  # noqa: BLE001 - it is raised where the picture is waited for
                    picture.loaded.set_exception(error)
                    return  # nobody looks at the pictures behind this one
                if picture.progress.is_given_up:
                    return  # another has taken its place
                picture.loaded.set_result(loaded)
        finally:
            if guard is not None:
                guard.close()
