"""Connections that go only where they may, and wait no longer than whoever makes them.

An address is looked at when its socket is about to be connected, to that very address: not a name, which may stand for
another one a moment later, and not a URL, which may lead elsewhere. A server that sends a byte now and then is never
silent: so each read also has only the time that is left of the whole.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

from transforms.storage import addresses
from transforms.web.faults import PrivateAddressError

CONNECT_SECONDS: Final = 10.0
"""Until a host takes a connection."""

SILENT_SECONDS: Final = 30.0
"""Between one byte of an answer and the next."""

POOLS: Final = 64
"""Hosts to which connections are kept open when nobody uses them."""

_thread = threading.local()


@contextmanager
def until(moment: float) -> Iterator[None]:
    """Bounds what this thread waits for its sockets inside the block: until a moment of `time.monotonic`."""
    _thread.until = moment
    try:
        yield
    finally:
        del _thread.until


def time_left(most: float) -> float:
    """Returns the seconds that this thread may wait for one thing now.

    Raises:
        TimeoutError: none.
    """
    left = float(getattr(_thread, "until", float("inf"))) - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time is left")
    return min(most, left)


class _Hurried:
    """A socket whose reads have only the time that is left."""

    def recv_into(self, *where: Any, **how: Any) -> int:
        self.settimeout(time_left(SILENT_SECONDS))  # type: ignore[attr-defined]  # a socket is the other base
        return super().recv_into(*where, **how)  # type: ignore[misc,no-any-return]  # likewise


class _Socket(_Hurried, socket.socket):
    pass


class _SecureSocket(_Hurried, ssl.SSLSocket):
    pass


def _connected(host: str, port: int, *, allow_private: bool) -> socket.socket:
    """Connects to the first address of a host that may be asked and answers.

    Raises:
        PrivateAddressError: none may be asked.
        OSError: none answers, or the name is not known.
    """
    refused, failure = "", OSError("the name stands for no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not allow_private and not addresses.is_public(str(address[0])):
            refused = str(address[0])
            continue
        made = _Socket(family, kind, protocol)
        try:
            made.settimeout(time_left(CONNECT_SECONDS))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.connect(address)
        except OSError as error:
            made.close()
            failure, refused = error, ""
        else:
            return made
    if refused:
        raise PrivateAddressError(f"{refused} is an address of this machine or its network")
    raise failure


class _Plain(HTTPConnection):
    def __init__(self, *where: Any, allow_private: bool, **how: Any) -> None:
        super().__init__(*where, **how)
        self._allow_private = allow_private

    def _new_conn(self) -> socket.socket:
        return _connected(self._dns_host, self.port, allow_private=self._allow_private)


class _Secure(HTTPSConnection):
    def __init__(self, *where: Any, allow_private: bool, **how: Any) -> None:
        super().__init__(*where, **how)
        self._allow_private = allow_private

    def _new_conn(self) -> socket.socket:
        return _connected(self._dns_host, self.port, allow_private=self._allow_private)


class Pools(urllib3.PoolManager):
    """Connections by host, kept open for the next file of it; for any number of threads.

    Args:
        allow_private: they may go to addresses of this machine and its network.
        connections: that are kept of one host.
    """

    def __init__(self, *, allow_private: bool, connections: int) -> None:
        """Connects to nothing yet."""
        context = urllib3.util.ssl_.create_urllib3_context()
        context.load_default_certs()
        context.sslsocket_class = _SecureSocket
        super().__init__(num_pools=POOLS, maxsize=connections, ssl_context=context)
        self._allow_private = allow_private

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> HTTPConnectionPool:
        pool = super()._new_pool(scheme, host, port, request_context)
        pool.ConnectionCls = _Secure if scheme == "https" else _Plain
        pool.conn_kw["allow_private"] = self._allow_private
        return pool
