"""Connections that keep a server from its work: those that say nothing, and those that are too many.

uvicorn closes a connection that is idle after an answer. One whose request never has all of its head it would keep for
ever, and more of them than a process may have files would stop it from taking any. Nor does the end of a server wait
for a body that may never be whole.
"""

import asyncio
import resource
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 20.0
"""A request has so long for its head, from its first byte or the connection on."""

MOST: Final = 4096
"""Connections at once: each more is closed at once."""

_OTHER_FILES: Final = 128
"""Files that the process has open beside connections."""


def most_connections() -> int:
    """Returns how many connections there may be: a process has so many files, and is given all that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files = MOST + _OTHER_FILES if hard == resource.RLIM_INFINITY else hard
    return max(8, min(MOST, files - _OTHER_FILES))


class Connection(H11Protocol):
    """A connection that is closed where a head does not come, or where there are too many."""

    head_seconds = HEAD_SECONDS
    most = MOST
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Takes it, or not."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._mind()

    def data_received(self, data: bytes) -> None:
        """Takes what comes, and minds how long the rest of a head takes."""
        super().data_received(data)
        self._mind()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets it."""
        self._forget()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Ends, as the server does: what was asked is answered first, but what is not asked whole yet never may be."""
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()
        else:
            super().shutdown()

    def _mind(self) -> None:
        cycle: Any = self.cycle
        if self.conn.their_state is h11.IDLE and (cycle is None or cycle.response_complete):
            if self._timer is None:
                self._timer = self.loop.call_later(self.head_seconds, self.transport.abort)
        else:
            self._forget()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
