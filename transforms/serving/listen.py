"""Listens, says where, and answers until it is told to end."""

import contextlib
import errno
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp

from transforms.errors import UsageError
from transforms.serving.connections import Connection, most_connections
from transforms.serving.hosts import Hosts

GRACE_SECONDS: Final = 20
"""Answers that were begun are waited for, so long."""

KEPT_SECONDS: Final = 75
"""A connection that nobody uses is kept so long: longer than those do that stand before a server."""

_BACKLOG: Final = 128


def open_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that has an address, and listens only once it is served; port 0 is any that is free.

    Until then who asks is refused at once, as platforms expect of what is not ready, instead of being left to wait.

    Raises:
        UsageError: it cannot.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host} is no address of this machine ({error}): take 127.0.0.1") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise _cannot_listen(f"{host}:{port}", error) from error
    return listening


def _cannot_listen(address: str, error: OSError) -> UsageError:
    way_out = "take another --port, or 0" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "see --host"
    return UsageError(f"cannot listen at {address} ({error.strerror or error}): {way_out}")


def url_of(listening: socket.socket) -> str:
    """Returns the address of a socket; of one that listens everywhere, the one of this machine."""
    host, port = listening.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def names_of(listening: socket.socket, host: str, allowed: Iterable[str] = ()) -> Hosts:
    """Returns the names by which a socket may be asked for; `host` is what it was opened with (see `Hosts.of`)."""
    return Hosts.of(listening.getsockname()[0].partition("%")[0], host, allowed)


def serve(app: ASGIApp, listening: socket.socket, told: Callable[[], None]) -> signal.Signals | None:
    """Answers until a signal says to end; `told` is called when it answers. Returns the signal.

    Raises:
        UsageError: another process has begun to listen there since the socket was opened.
    """
    try:
        listening.listen(_BACKLOG)
    except OSError as error:
        raise _cannot_listen(url_of(listening), error) from error
    Connection.most = most_connections()
    server = Server.of(app, told)
    server.run(sockets=[listening])
    return server.ended_by


class Server(uvicorn.Server):
    """Says when it answers, and ends by a signal without raising it anew."""

    def __init__(self, config: uvicorn.Config, told: Callable[[], None]) -> None:
        """Answers nothing yet."""
        super().__init__(config)
        self._told = told
        self.ended_by: signal.Signals | None = None

    @classmethod
    def of(cls, app: ASGIApp, told: Callable[[], None]) -> Self:
        """Returns one that answers with an application, and calls `told` from when on it does."""
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=Connection,
            backlog=_BACKLOG,
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEPT_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        return cls(config, told)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer, and says so."""
        await super().startup(sockets)
        if self.started:
            self._told()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends at SIGINT and SIGTERM, which only the main thread hears."""
        heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {one: signal.signal(one, self.handle_exit) for one in heard}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes note of the signal, and begins to end."""
        self.ended_by = self.ended_by or signal.Signals(sig)
        super().handle_exit(sig, frame)
