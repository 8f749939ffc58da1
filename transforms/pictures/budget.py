"""How much memory the pictures that are being decoded may take together."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


DECODED_BYTES = 768 << 20
"""Of the pictures that all threads of a process decode at one time."""

BATCHES_AHEAD = 2
"""Batches of pictures being fetched and decoded while one is encoded: more hides slower storage, and holds more."""

_TRIM_FROM = 16 << 20
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only; elsewhere freed memory goes back by itself


class DecodeBudget:
    """Bounds the memory of the pictures that are being decoded at one time, over all threads that share it.

    Threads pass in the order they came, so that a large picture is never starved by small ones; it may hold up what
    comes behind it. A picture that alone exceeds the budget is let through when nothing else is in flight.

    Args:
        max_bytes: of pixels while they are decoded, estimated from the declared size; not the files' bytes, and not the
            pictures that `decode` has returned. 768 MB let one PNG of the default pixel limit pass (4 bytes a pixel),
            or eight photographs of 24 Mpixel. Smaller saves memory and makes threads wait.
    """

    def __init__(self, max_bytes: int = DECODED_BYTES) -> None:
        """Makes an empty budget; share one object among all threads of a process."""
        self._max_bytes = max_bytes
        self._in_flight = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Waits until `amount` bytes fit, holds them inside the block, and gives them back however it is left.

        From 16 MiB on, the allocator is asked to give freed memory back to the system too, which takes milliseconds:
        glibc keeps it for each thread, so that eight threads which each decoded one huge picture hold eight of them.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._fits(amount))
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            self._in_flight += amount
        try:
            yield
        finally:
            if amount >= _TRIM_FROM and _malloc_trim is not None:
                _malloc_trim(0)
            with self._changed:
                self._in_flight -= amount
                self._changed.notify_all()

    def _fits(self, amount: int) -> bool:
        return self._in_flight == 0 or self._in_flight + amount <= self._max_bytes
