"""Foreign pictures are decoded in processes that may crash or never end (`pictures.guard`), a few at once."""

import threading

import PIL.Image

from transforms.pictures.guard import Guard, How
from transforms.rejects import Failure


class Decoders:
    """Processes that decode. Threads may share them."""

    def __init__(self, at_once: int) -> None:
        """Starts none yet; so many decode at once, and twice as many are kept for the next picture."""
        self._turns, self._most = threading.BoundedSemaphore(at_once), 2 * at_once
        self._lock = threading.Lock()
        self._idle: list[tuple[How, Guard]] = []
        self._is_closed = False

    def decode(self, how: How, data: bytes) -> PIL.Image.Image | Failure:
        """Returns the picture of a file, or why there is none.

        Raises:
            PixdexError: no process can be started here.
        """
        with self._turns:
            guard = self._taken(how)
            try:
                return guard.decode(data)
            finally:
                self._put(how, guard)

    def close(self) -> None:
        """Ends the processes."""
        with self._lock:
            self._is_closed = True
            ended, self._idle = self._idle, []
        for _, guard in ended:
            guard.close()

    def _taken(self, how: How) -> Guard:
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place][0] == how:
                    return self._idle.pop(place)[1]
        return Guard(how)

    def _put(self, how: How, guard: Guard) -> None:
        with self._lock:
            self._idle.append((how, guard))
            spare = len(self._idle) if self._is_closed else max(0, len(self._idle) - self._most)
            ended, self._idle = self._idle[:spare], self._idle[spare:]
        for _, one in ended:
            one.close()
