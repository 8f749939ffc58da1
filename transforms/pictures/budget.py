"""How much memory the pictures that are being decoded may take together."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from transforms import freed_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


DECODED_BYTES = 768 << 20
"""Of the files and pixels of the pictures that all threads of a process decode at one time."""

BATCHES_AHEAD = 2
"""Batches of pictures being fetched and decoded while one is encoded: more hides slower storage, and holds more."""

_GIVEN_BACK_FROM = 16 << 20


class Budget(Protocol):
    """What memory is asked of: a budget, what holds a part of one, or whoever asks it for somebody else."""

    def take(self, amount: int) -> AbstractContextManager[object]:
        """Waits until `amount` bytes fit, and holds them inside the block."""


class ShareReleasedError(RuntimeError):
    """A share that was given back asks for more: nobody waits for what it would hold."""


class DecodeBudget:
    """Bounds the memory of the pictures that are being decoded at one time, over all threads that share it.

    A picture takes a `Share`, for its file, and more by it, for its pixels. Shares are given in the order in which they
    were asked for, so that a large picture is never starved by small ones; it may hold up what comes behind it. A
    picture that alone exceeds the budget is let through when nothing else is in flight. So that pictures which hold
    their files never wait for each other for ever, the oldest share always gets more.

    Args:
        max_bytes: of files and of pixels while they are decoded, as estimated from the declared size; not of the
            pictures that `decode` has returned. 768 MB let one PNG of the default pixel limit pass (4 bytes a pixel),
            or eight photographs of 24 Mpixel. It may be exceeded by the pixels of one picture. Smaller saves memory and
            makes threads wait.
    """

    def __init__(self, max_bytes: int = DECODED_BYTES) -> None:
        """Makes an empty budget; share one object among all threads of a process."""
        self._max_bytes = max_bytes
        self._in_flight = 0
        self._waiting: deque[Share] = deque()
        self._shares: list[Share] = []
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[Share]:
        """Waits until `amount` bytes fit, holds them inside the block, and gives them back however it is left.

        From 16 MiB on, the allocator is asked to give freed memory back to the system too, which takes milliseconds:
        glibc keeps it for each thread, so that eight threads which each decoded one huge picture hold eight of them.
        """
        share = Share(self)
        with self._changed:
            self._waiting.append(share)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is share and self._fits(amount))
            finally:
                self._waiting.remove(share)
                self._changed.notify_all()
            self._shares.append(share)
            self._add(share, amount)
        try:
            yield share
        finally:
            if share.most >= _GIVEN_BACK_FROM:
                freed_memory.give_back()
            self.release(share)

    def release(self, share: Share) -> None:
        """Gives all back that a share holds, also while its block has not ended and nobody waits for that."""
        with self._changed:
            if share in self._shares:
                self._shares.remove(share)
                self._in_flight -= share.held
                share.held = 0
                self._changed.notify_all()

    def _grow(self, share: Share, amount: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: share not in self._shares or share is self._shares[0] or self._fits(amount))
            if share not in self._shares:
                raise ShareReleasedError("what was held for this picture was given back")
            self._add(share, amount)

    def _shrink(self, share: Share, amount: int) -> None:
        with self._changed:
            if share in self._shares:
                self._add(share, -amount)
                self._changed.notify_all()

    def _add(self, share: Share, amount: int) -> None:
        self._in_flight += amount
        share.held += amount
        share.most = max(share.most, share.held)

    def _fits(self, amount: int) -> bool:
        return self._in_flight == 0 or self._in_flight + amount <= self._max_bytes


class Share:
    """What one picture holds of a budget; a budget makes it.

    Attributes:
        held: bytes now.
        most: bytes at most, up to now.
    """

    def __init__(self, budget: DecodeBudget) -> None:
        """Holds nothing yet."""
        self._budget = budget
        self.held = 0
        self.most = 0

    @contextmanager
    def take(self, amount: int) -> Iterator[Share]:
        """Takes more for the time of the block, as `DecodeBudget.take` does.

        Raises:
            ShareReleasedError: it was released.
        """
        self._budget._grow(self, amount)
        try:
            yield self
        finally:
            self._budget._shrink(self, amount)

    def release(self) -> None:
        """Gives all back, though the block that took it goes on; it takes no more."""
        self._budget.release(self)
