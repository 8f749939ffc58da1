"""Fetches files of the web, each within its time and size, from hosts that may be asked, when it is their turn."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast
from urllib.parse import unquote, urljoin

from urllib3 import HTTPResponse, Timeout, make_headers
from urllib3.exceptions import HTTPError, LocationValueError
from urllib3.util import Url, parse_url

from transforms.web import connections, faults
from transforms.web.connections import Pools
from transforms.web.costs import Clock, MoreRoomError
from transforms.web.faults import Fault, WebError
from transforms.web.limits import WebLimits
from transforms.web.turns import Turns

SCHEMES: Final = ("http", "https")

MOST_REDIRECTS: Final = 10

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_READ_AT_ONCE: Final = 64 << 10
_THROWN_AWAY: Final = 64 << 10
"""The body of an answer that is no file is read to keep its connection, if it says that it has no more bytes."""

_HTML: Final = (b"<!doctype html", b"<html", b"<head", b"<body")


_MOST_DOUBLINGS: Final = 7
"""Of the pause for which a busy host is left alone."""


class OutOfTimeError(Exception):
    """A file has taken all the time that it has."""


@dataclass(frozen=True)
class Wanted:
    """A file that somebody wants.

    Attributes:
        url: of it.
        limit: bytes that it may have, unpacked if the server packs it.
        seconds: that it may take, pauses between tries and all, but for what it waits for its host's turn.
        clock: its time, which is told of that.
        room: bytes that may be held now.
        named: hosts that may be at addresses of this machine and its network, whatever the limits say.
    """

    url: str
    limit: int
    seconds: float
    clock: Clock
    room: int
    named: Container[str] = ()

    def left(self) -> float:
        """Returns the seconds that it may still take."""
        return self.seconds - self.clock.spent()


class Client:
    """Fetches files; the threads of a process share one, and with it what it may ask of a host.

    Args:
        limits: what it may ask.
        turns, sleep: for tests.
    """

    def __init__(
        self, limits: WebLimits, turns: Turns | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Asks for nothing yet."""
        # What it warns of, headers that it cannot read and pools that are full, is of no use to anybody here.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._turns = turns or Turns(limits.host_connections, limits.host_rate)
        self._sleep, self._allow_private = sleep, limits.allow_private
        self._pools = {
            private: Pools(allow_private=private, connections=limits.host_connections) for private in (False, True)
        }
        self._headers = {
            **make_headers(user_agent=limits.user_agent),
            "accept": "image/*, */*;q=0.8",
            "accept-encoding": "identity",
        }

    def get(self, wanted: Wanted) -> bytes:
        """Returns the content of a file.

        Raises:
            WebError: it cannot be had; of the rule `stop`, this machine is at fault.
            OutOfTimeError: it took too long.
            MoreRoomError: it has more bytes than there is room for, and no more than it may have as far as is known.
        """
        known: Fault | None = None
        for pause in (*faults.pauses(), None):
            try:
                return self._fetched(wanted)
            except OutOfTimeError:
                break
            except WebError as error:
                fault = error.fault
            if fault.rule != "retry" or pause is None or self._turns.is_down(str(_parsed(wanted.url).host)):
                raise WebError(fault)
            if not fault.is_silence:
                known = fault
            if _is_busy(fault):
                continue  # its turn comes when the host has time again
            if pause >= wanted.left():
                break
            self._sleep(pause)
        # What a server did wrong before the time was over says more than that it was over.
        raise OutOfTimeError if known is None else WebError(known)

    def _fetched(self, wanted: Wanted) -> bytes:
        """One try, along all redirects."""
        first = asked = _parsed(wanted.url)
        for _ in range(MOST_REDIRECTS + 1):
            headers = dict(self._headers)
            if first.auth is not None and (asked.scheme, asked.host) == (first.scheme, first.host):
                headers |= make_headers(basic_auth=unquote(first.auth))
            found = self._asked(asked, headers, wanted)
            if isinstance(found, bytes):
                return found
            asked = _parsed(found, asked.url)
        raise WebError(Fault("TooManyRedirects", f"more than {MOST_REDIRECTS} redirects lead from it"))

    def _asked(self, url: Url, headers: dict[str, str], wanted: Wanted) -> bytes | str:
        """Returns the content of a file, or where a server says that it is."""
        host = str(url.host)
        with contextlib.ExitStack() as held:
            with wanted.clock.waiting():
                held.enter_context(self._turns.turn(host))
            if (left := wanted.left()) <= 0:
                raise OutOfTimeError
            try:
                with connections.until(time.monotonic() + left):
                    found = self._answer(url, headers, wanted)
            except MoreRoomError:
                raise
            except Exception as error:
                fault = error.fault if isinstance(error, WebError) else faults.fault_of(error)
                self._note(host, fault)
                raise WebError(fault) from error
            self._note(host, None)
            return found

    def _answer(self, url: Url, headers: dict[str, str], wanted: Wanted) -> bytes | str:
        response = self._pools[self._allow_private or str(url.host).strip("[]") in wanted.named].request(
            "GET",
            url._replace(auth=None, fragment=None).url,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            timeout=Timeout(connect=connections.CONNECT_SECONDS, read=connections.SILENT_SECONDS),
        )
        try:
            return _read(cast(HTTPResponse, response), wanted.limit, wanted.room)
        finally:
            response.close()

    def _note(self, host: str, fault: Fault | None) -> None:
        """Remembers whether a host answered, and leaves it alone as it wants it."""
        if fault is None or not fault.is_of_host:
            self._turns.answered(host)
            return
        refusals = self._turns.refused(host, fault)
        if _is_busy(fault):
            usual = next(faults.pauses()) * 2 ** min(refusals - 1, _MOST_DOUBLINGS)
            self._turns.hold(host, usual if fault.wait is None else fault.wait)


def _is_busy(fault: Fault) -> bool:
    """Tells whether a host answered that it has no time now."""
    return fault.is_of_host and fault.type == "HTTPError"


_lock = threading.Lock()


@lru_cache(maxsize=4)
def _made(limits: WebLimits) -> Client:
    return Client(limits)


def client_of(limits: WebLimits) -> Client:
    """Returns the client that all threads of this process share which have these limits."""
    with _lock:
        return _made(limits)


def _parsed(location: str, base: str = "") -> Url:
    try:
        url = parse_url(urljoin(base, location))
    except (LocationValueError, ValueError) as error:
        raise WebError(faults.BAD_URL) from error
    if url.scheme not in SCHEMES or not url.host:
        raise WebError(faults.BAD_URL)
    return url


def _read(response: HTTPResponse, limit: int, room: int) -> bytes | str:
    """Returns the body of an answer that is a file, or the place that one names instead.

    Raises:
        WebError, MoreRoomError: there is neither.
    """
    location = response.headers.get("Location")
    if response.status in _REDIRECTS and location:
        _throw_away(response)
        return _as_meant(location)
    if not 200 <= response.status < 300:
        _throw_away(response)
        raise WebError(faults.of_status(response.status, response.reason, response.headers.get("Retry-After")))
    declared = response.length_remaining or 0
    if declared > limit:
        raise WebError(_too_large(f"{declared} bytes", limit))
    if declared > room:
        raise MoreRoomError(declared)
    parts, size = list[bytes](), 0
    while part := response.read1(_READ_AT_ONCE, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise WebError(_too_large(f"more than {limit} bytes", limit))
        if size > room:
            raise MoreRoomError(min(limit, 4 * room))
    body = b"".join(parts)
    if body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        raise WebError(Fault("HTMLPage", "the server sent a page of HTML, and no picture"))
    return body


def _as_meant(header: str) -> str:
    """Returns a header as UTF-8, as which browsers read it, if it is that; Python takes bytes for Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _too_large(size: str, limit: int) -> Fault:
    return Fault(
        "ObjectTooLargeError", f"the file has {size}, the limit is {limit}: raise --max-file-bytes or leave it out"
    )


def _throw_away(response: HTTPResponse) -> None:
    length = response.length_remaining
    if length is not None and length <= _THROWN_AWAY:
        with contextlib.suppress(HTTPError, OSError):  # what it says is known already
            while response.read1(_THROWN_AWAY):
                pass
