"""Whose turn it is to ask a host: a few at a time, as often as is allowed, and not while it wants to be left alone.

A host that has refused everybody for minutes is not waited for: each file of it would take as long to find that out.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from transforms.web.faults import LONGEST_WAIT, Fault, WebError

HOSTS_KEPT: Final = 10_000
"""Hosts whose state is kept, those that nobody asks any more: about a kilobyte each."""

REFUSALS: Final = 16
"""In a row, so many refusals within no less than `REFUSED_SECONDS` mean that a host is down."""

REFUSED_SECONDS: Final = 120.0


@dataclass
class _Host:
    """One host.

    Attributes:
        slots: how many may ask it at once.
        users: threads that wait for it or ask it.
        free_at: when it may be asked next.
        since, refusals, last: since when, how often and how it refused, without an answer in between.
    """

    slots: threading.Semaphore
    users: int = 0
    free_at: float = 0.0
    since: float = 0.0
    refusals: int = 0
    last: Fault | None = field(default=None)


class Turns:
    """Gives turns to the threads of a process.

    Args:
        connections: turns that a host has at one time.
        rate: turns that begin in a second, if there is a limit.
        clock, sleep: for tests.
    """

    def __init__(
        self,
        connections: int,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nobody has asked anything yet."""
        self._connections, self._pause = connections, 0.0 if rate is None else 1 / rate
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Waits for a turn, and has it for the time of the block.

        Raises:
            WebError: the host is down, and is asked again later than now.
        """
        with self._used(host) as state, state.slots:
            while wait := self._begins_in(state):
                self._sleep(wait)
            yield

    def hold(self, host: str, seconds: float) -> None:
        """Leaves a host alone for so many seconds, but no longer than a minute."""
        with self._used(host) as state, self._lock:
            state.free_at = max(state.free_at, self._clock() + min(seconds, LONGEST_WAIT))

    def refused(self, host: str, fault: Fault) -> int:
        """Notes that a host did not answer, or that it is too busy; returns how often it did so in a row."""
        with self._used(host) as state, self._lock:
            if not state.refusals:
                state.since = self._clock()
            state.refusals, state.last = state.refusals + 1, fault
            if self._is_down(state):
                state.free_at = max(state.free_at, self._clock() + LONGEST_WAIT)
            return state.refusals

    def answered(self, host: str) -> None:
        """Notes that a host is there."""
        with self._used(host) as state, self._lock:
            state.refusals = 0

    def is_down(self, host: str) -> bool:
        """Tells whether another try would be as vain as those of others before."""
        with self._used(host) as state, self._lock:
            return self._is_down(state)

    def _begins_in(self, state: _Host) -> float:
        with self._lock:
            now = self._clock()
            wait = state.free_at - now
            if wait > 0:
                if self._is_down(state) and state.last is not None:
                    raise WebError(state.last)
                return wait
            state.free_at = now + self._pause
            return 0.0

    def _is_down(self, state: _Host) -> bool:
        return state.refusals >= REFUSALS and self._clock() - state.since >= REFUSED_SECONDS

    @contextmanager
    def _used(self, host: str) -> Iterator[_Host]:
        with self._lock:
            state = self._hosts.setdefault(host, _Host(threading.Semaphore(self._connections)))
            state.users += 1
            self._hosts.move_to_end(host)
        try:
            yield state
        finally:
            with self._lock:
                state.users -= 1
                while len(self._hosts) > HOSTS_KEPT:
                    oldest = next((name for name, each in self._hosts.items() if not each.users), None)
                    if oldest is None:
                        break
                    del self._hosts[oldest]
