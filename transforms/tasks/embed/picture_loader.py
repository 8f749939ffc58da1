"""Loads the pictures of a partition, several at a time and ahead of the encoder, each within its time.

A thread cannot be ended. One that takes too long is left to itself, so that another takes its place, and the picture
gets a last try in a process that can be (`transforms.pictures.guard`). Where an attempt before ended its process, all
pictures are decoded in such processes from the first.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from transforms.encoders import Encoder
from transforms.pictures.budget import BATCHES_AHEAD
from transforms.pictures.guard import TOO_LONG, Guard, How
from transforms.records import EncoderSettings
from transforms.rejects import Failure
from transforms.tasks.embed.limits import ItemLimits
from transforms.tasks.embed.load_picture import Prepared, Progress, Way, load_picture, target_side

FETCH_THREADS = 8
"""Pictures fetched and decoded at once; decoding lets other threads run, and fetching mostly waits."""

GUARDED_AT_ONCE: Final = 2
"""Pictures decoded at once in processes of their own, whose memory no budget counts."""


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
        is_guarded: every picture is decoded in another process: slower, by what starting two of them takes, and by
            the number of threads that decode otherwise.
    """

    def __init__(
        self, encoder: Encoder, settings: EncoderSettings, limits: ItemLimits, *, is_guarded: bool = False
    ) -> None:
        """Starts the threads."""
        target = target_side(encoder)
        self._way = Way(encoder, settings.image_fit, target, settings.pixel_limit, limits.file_bytes)
        self._how = How(settings.pixel_limit, target, settings.image_fit)
        self._seconds = limits.seconds
        self._is_guarded = is_guarded
        self._last_try = Guard(self._how, limits.seconds)
        self._queue: queue.SimpleQueue[_Picture | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        for _ in range(GUARDED_AT_ONCE if is_guarded else FETCH_THREADS):
            self._add_thread()

    def __enter__(self) -> "PictureLoader":
        """Returns the loader."""
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
        self._last_try.close()

    def batches(self, uris: Sequence[str], size: int) -> Iterator[tuple[int, list[Prepared | Failure]]]:
        """Yields (start, loaded) of every batch of so many pictures, in order, while the next ones are being loaded.

        Raises:
            PixdexError: this machine is at fault and not the pictures.
        """
        ahead: deque[tuple[int, list[_Picture]]] = deque()
        for start in range(0, len(uris), size):
            pictures = [_Picture(uri) for uri in uris[start : start + size]]
            ahead.append((start, pictures))
            for picture in pictures:
                self._queue.put(picture)
            if len(ahead) > BATCHES_AHEAD:
                first, pictures = ahead.popleft()
                yield first, [self._wait(picture) for picture in pictures]
        for first, pictures in ahead:
            yield first, [self._wait(picture) for picture in pictures]

    def _wait(self, picture: _Picture) -> Prepared | Failure:
        """Waits for a picture until it is there or has had its time."""
        while (left := picture.progress.left(self._seconds)) > 0:
            try:
                return picture.loaded.result(left)
            except TimeoutError:
                continue
        data = picture.progress.give_up()
        assert picture.thread is not None  # it began, or it could not be late
        self._threads.remove(picture.thread)
        self._add_thread()
        if data is None:
            return Failure("fetch", "timeout", f"fetching {TOO_LONG}")
        decoded = self._last_try.decode(data)
        return decoded if isinstance(decoded, Failure) else self._way.prepare(decoded)

    def _add_thread(self) -> None:
        # Not of a pool of the standard library: Python waits for the threads of those before it ends.
        thread = threading.Thread(target=self._work, name="fetch", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        guard = Guard(self._how, self._seconds) if self._is_guarded else None
        guarded = None if guard is None else guard.decode
        try:
            while (picture := self._queue.get()) is not None:
                picture.thread = threading.current_thread()
                try:
                    loaded = load_picture(picture.uri, self._way, picture.progress, guarded)
                    picture.loaded.set_result(loaded)
                except BaseException as error:  # noqa: BLE001 - it is raised where the picture is waited for
                    picture.loaded.set_exception(error)
                    return  # nobody looks at the pictures behind this one
                if picture.progress.is_given_up:
                    return  # another has taken its place
        finally:
            if guard is not None:
                guard.close()
