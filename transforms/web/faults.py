"""What can go wrong with a file on the web, in words that are the same everywhere, and what is done about it.

| what | what is done |
|---|---|
| 408, 425, 429, any 5xx but 501 and 505; no connection; a body that is cut short or damaged; silence | `retry` |
| any other status; an unknown name; a bad certificate; a private address; many redirects; a page of HTML | `reject` |
| this machine has no memory, no open files or no network card left | `stop` |

What is retried becomes a reject when tries or time are used up. Who says 429 or 503 means all of its files, and is left
alone for as long as it says.
"""

import errno
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead
from typing import Final, Literal

from urllib3 import exceptions

Rule = Literal["retry", "reject", "stop"]

TRIES: Final = 5
"""Of one file, the first among them."""

FIRST_PAUSE: Final = 0.5
"""Seconds between the first and the second try; each pause after it is twice as long."""

LONGEST_WAIT: Final = 60.0
"""Seconds for which a host is left alone at most, however long it says."""

_OF_HOST: Final = frozenset({429, 503})
_PASSING: Final = frozenset({408, 425, *_OF_HOST})
_LASTING: Final = frozenset({501, 505})
_UNKNOWN_NAME: Final = frozenset(
    number for number in (getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA")) if number is not None
)

MACHINE_FAULTS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ENOBUFS, errno.ENETDOWN}
)
"""Numbers of errors that say nothing about what was asked for."""

_PLACE_IN_SSL: Final = re.compile(r" ?\(_ssl\.c:\d+\)")


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file, and what is done about it.

    Attributes:
        type, message: as a reject says them.
        rule: what is done.
        is_of_host: it befell the host, and not this file alone.
        is_silence: time went by, and no answer came.
        wait: seconds for which the host wants to be left alone; None: it does not say.
    """

    type: str
    message: str
    rule: Rule = "reject"
    is_of_host: bool = False
    is_silence: bool = False
    wait: float | None = None


BAD_URL: Final = Fault("BadURL", "it is no URL of http or https, or leads to none")


class WebError(Exception):
    """A file on the web cannot be had."""

    def __init__(self, fault: Fault) -> None:
        """For this fault."""
        super().__init__(fault.message)
        self.fault = fault


class PrivateAddressError(Exception):
    """A name leads to nothing but addresses of this machine or its network."""


def of_status(status: int, reason: str | None, retry_after: str | None = None) -> Fault:
    """Returns the fault of an answer that is no file.

    >>> of_status(404, "gone fishing").message, of_status(404, None).rule, of_status(503, None).rule
    ('404 Not Found', 'reject', 'retry')
    """
    try:
        phrase = HTTPStatus(status).phrase  # not the server's own, so that the same fault has the same words
    except ValueError:
        phrase = (reason or "").strip()
    passes = status in _PASSING or (500 <= status < 600 and status not in _LASTING)
    wait = seconds_of(retry_after) if status in _OF_HOST and retry_after else None
    rule: Rule = "retry" if passes else "reject"
    return Fault("HTTPError", f"{status} {phrase}".strip(), rule, status in _OF_HOST, wait=wait)


def seconds_of(retry_after: str, now: Callable[[], float] = time.time) -> float | None:
    """Returns the seconds from now that a `Retry-After` means, a number or a date; None: it is neither.

    >>> seconds_of("120"), seconds_of("soon"), seconds_of("Thu, 01 Jan 1970 00:00:10 GMT", lambda: 4.0)
    (120.0, None, 6.0)
    """
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, moment - now())


def pauses(chance: Callable[[], float] = random.random) -> Iterator[float]:
    """Yields the seconds between tries: twice as many each time, less a part of up to a half that chance decides.

    So that many who failed together do not come back together.
    """
    for tries in range(TRIES - 1):
        yield FIRST_PAUSE * 2**tries * (1 - chance() / 2)


def fault_of(error: Exception) -> Fault:
    """Returns the fault that an exception of urllib3, of a socket or of Python means."""
    cause = _cause(error)
    for kind in (_of_machine, _of_answer, _of_certificate, _of_connection, _of_url):
        if (fault := kind(cause)) is not None:
            return fault
    return Fault(type(cause).__name__, str(cause) or type(cause).__name__)


def _of_machine(cause: Exception) -> Fault | None:
    if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in MACHINE_FAULTS):
        return Fault(type(cause).__name__, str(cause), "stop")
    return None


def _of_answer(cause: Exception) -> Fault | None:
    if isinstance(cause, IncompleteRead | exceptions.IncompleteRead):
        return Fault("CutShort", "the connection ended before the body did", "retry")
    if isinstance(cause, exceptions.DecodeError):
        return Fault("DecodeError", "what the server packed cannot be unpacked", "retry")
    is_no_answer = isinstance(cause, HTTPException | exceptions.ProtocolError | exceptions.InvalidHeader)
    if is_no_answer and not isinstance(cause, OSError):
        return Fault("BadAnswer", "what the server says is no HTTP", "retry")
    return None


def _of_certificate(cause: Exception) -> Fault | None:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Fault("SSLCertVerificationError", getattr(cause, "verify_message", "the certificate is not valid"))
    if isinstance(cause, ssl.SSLError):
        return Fault("SSLError", _PLACE_IN_SSL.sub("", str(cause)), "retry")
    return None


def _of_connection(cause: Exception) -> Fault | None:
    if isinstance(cause, PrivateAddressError):
        return Fault("PrivateAddress", f"{cause}, which --allow-private-addresses allows")
    if isinstance(cause, TimeoutError | exceptions.TimeoutError):
        return Fault("TimeoutError", "the server was silent for too long", "retry", is_of_host=True, is_silence=True)
    if isinstance(cause, socket.gaierror):
        if cause.errno in _UNKNOWN_NAME:
            return Fault("UnknownHost", "nobody knows the name of the host")
        return Fault("UnknownHost", "the name of the host could not be looked up", "retry", is_of_host=True)
    if isinstance(cause, OSError):
        is_of_host = not isinstance(cause, ConnectionResetError)  # one that hangs up may do so for one file
        return Fault(type(cause).__name__, cause.strerror or str(cause), "retry", is_of_host)
    return None


def _of_url(cause: Exception) -> Fault | None:
    if isinstance(cause, exceptions.LocationValueError | exceptions.URLSchemeUnknown | UnicodeError):
        return BAD_URL
    return None


def _cause(error: Exception) -> Exception:
    """What urllib3 has wrapped."""
    whole = exceptions.IncompleteRead | exceptions.TimeoutError | exceptions.DecodeError
    while isinstance(error, exceptions.HTTPError) and not isinstance(error, whole):
        inner = [part for part in (*error.args, error.__cause__) if isinstance(part, Exception) and part is not error]
        if not inner:
            return error
        error = inner[0]
    return error
