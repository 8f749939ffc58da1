"""Fetches the file of one picture; tells an object that is at fault from a machine that is.

What is wrong with an object, or with the place it lies at, is an exception of that object and rejects its item for
good. What is wrong with this machine says nothing about the picture: it stops the run, which can go on later.
"""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from transforms.errors import PixdexError
from transforms.rejects import Failure
from transforms.storage import uris
from transforms.storage.uris import Located, ObjectTooLargeError

T = TypeVar("T")

RETRY_AFTER = (0.5, 2.0)
"""Seconds before a remote object is asked for again: more outlast longer outages, and wait longer for dead hosts."""

_MACHINE_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})
_DISK_FAULTS = frozenset({errno.EIO, errno.ESTALE})
_PASSING_STATUS = frozenset({408, 425, 429})


def locate(uri: str, limit: int) -> Located:
    """Finds an object; a remote one is asked for up to three times.

    Args:
        uri: the object.
        limit: bytes that it may have.

    Raises:
        PixdexError: this machine is at fault.
        ObjectTooLargeError: it has more bytes than allowed.
        Exception: the object is at fault: it is missing or forbidden, or its storage failed every time.
    """
    located = persistently(uri, lambda: uris.locate(uri))
    if located.size is not None and located.size > limit:
        raise ObjectTooLargeError(
            f"the file has {located.size} bytes, the limit is {limit}: raise --max-file-bytes or leave it out"
        )
    return located


def read(uri: str, located: Located, limit: int) -> bytes:
    """Reads an object that was located; tries and raises as `locate`."""
    return persistently(uri, lambda: located.read(limit))


def persistently(uri: str, attempt: Callable[[], T]) -> T:
    """Returns what an attempt at an object returns, after up to three tries at a remote one; raises as `locate`."""
    local = uri.startswith("file://")
    for pause in (*(() if local else RETRY_AFTER), None):
        try:
            return _told(uri, attempt)
        except Exception as error:
            if _machine_at_fault(error, local):
                raise PixdexError(
                    f"{uri} cannot be fetched on this machine ({Failure.of('fetch', error)}): mend the machine "
                    "or remove the object, then run the same command again to go on from here"
                ) from error
            if pause is None or not _may_pass(error):
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _told(uri: str, attempt: Callable[[], T]) -> T:
    try:
        return attempt()
    except FileNotFoundError as error:
        # fsspec says this of everything that befalls an HTTP request, a busy server too; the cause says what it was.
        if uri.startswith(("http://", "https://")) and isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


def _machine_at_fault(error: Exception, local: bool) -> bool:
    if isinstance(error, MemoryError):
        return True
    # s3fs reports every answer that it does not know as EIO: only of a local file does that mean the disk.
    return isinstance(error, OSError) and error.errno in (_MACHINE_FAULTS | _DISK_FAULTS if local else _MACHINE_FAULTS)


def _may_pass(error: Exception) -> bool:
    """Whether a remote object may be there at the next try."""
    status = getattr(error, "status", None) or getattr(error, "code", None)  # of aiohttp and urllib; of gcsfs
    if isinstance(status, int) and 400 <= status < 500:
        return status in _PASSING_STATUS
    # Not only OSError: a server that hangs up is an error of the client library's own kind.
    return not isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | ValueError | ImportError)
