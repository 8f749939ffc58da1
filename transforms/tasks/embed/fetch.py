"""Fetches the file of one picture; tells an object that is at fault from a machine that is.

What is on the web is fetched by `transforms.web`, everything else by its filesystem.

What is wrong with an object, or with the place it lies at, is an exception of that object and rejects its item for
good. What is wrong with this machine says nothing about the picture: it stops the run, which can go on later.
"""

import errno
import time
from collections.abc import Callable
from typing import Final, TypeVar

from transforms.errors import PixdexError
from transforms.pictures.guard import OVERTIME
from transforms.rejects import Failure, normalised_message
from transforms.storage import addresses, uris
from transforms.storage.uris import Located, ObjectTooLargeError
from transforms.tasks.embed.limits import ItemLimits
from transforms.web.costs import Clock

T = TypeVar("T")

RETRY_AFTER = (0.5, 2.0)
"""Seconds before a remote object is asked for again: more outlast longer outages, and wait longer for dead hosts."""

LATE: Final = Failure("fetch", "timeout", f"fetching {OVERTIME}")
"""Of a picture that took too long to come."""

_SPARE_SECONDS: Final = 1.0

_MACHINE_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})
_DISK_FAULTS = frozenset({errno.EIO, errno.ESTALE})
_PASSING_STATUS = frozenset({408, 425, 429})


def locate(uri: str, limit: int) -> Located | None:
    """Finds an object; a remote one is asked for up to three times. None: it is on the web, for `from_web`.

    Args:
        uri: the object.
        limit: bytes that it may have.

    Raises:
        PixdexError: this machine is at fault.
        ObjectTooLargeError: it has more bytes than allowed.
        Exception: the object is at fault: it is missing or forbidden, or its storage failed every time.
    """
    if addresses.is_web(uri):
        return None
    located = persistently(uri, lambda: uris.locate(uri))
    if located.size is not None and located.size > limit:
        raise ObjectTooLargeError(
            f"the file has {located.size} bytes, the limit is {limit}: raise --max-file-bytes or leave it out"
        )
    return located


def refusal(uri: str, limits: ItemLimits) -> Failure | None:
    """Returns why a machine is not asked for a picture, or None: it may be, or its connections are looked at."""
    if not addresses.names_machine(uri) or limits.web.allow_private or addresses.host_of(uri) in limits.named:
        return None
    if addresses.is_public_host(uri):
        return None
    return Failure(
        "fetch", "PrivateAddress", "the host is at an address of this machine or its network, or nobody finds it"
    )


def read(uri: str, located: Located, limit: int) -> bytes:
    """Reads an object that was located; tries and raises as `locate`."""
    return persistently(uri, lambda: located.read(limit))


def from_web(uri: str, limits: ItemLimits, clock: Clock, room: int) -> bytes | Failure:
    """Returns the content of a file on the web, or why there is none.

    Args:
        uri: of it.
        limits: what it may cost.
        clock: its time; of that it takes a little less than the whole, so that it ends before its thread is given up.
        room: bytes that may be held now.

    Raises:
        PixdexError: this machine is at fault.
        MoreRoomError: it has more bytes than there is room for.
    """
    # Imported here, since few roots have pictures on the web.
    from transforms.web.client import OutOfTimeError, Wanted, client_of  # noqa: PLC0415
    from transforms.web.faults import WebError  # noqa: PLC0415

    seconds = limits.seconds - min(_SPARE_SECONDS, limits.seconds / 10)
    try:
        wanted = Wanted(uri, limits.file_bytes, seconds, clock, room, limits.named)
        return client_of(limits.web).get(wanted)
    except OutOfTimeError:
        return LATE
    except WebError as error:
        failure = Failure("fetch", error.fault.type, normalised_message(error))
        if error.fault.rule == "stop":
            raise _machine_fault(uri, failure) from error
        return failure


def persistently(uri: str, attempt: Callable[[], T]) -> T:
    """Returns what an attempt at an object returns, after up to three tries at a remote one; raises as `locate`."""
    local = uri.startswith("file://")
    for pause in (*(() if local else RETRY_AFTER), None):
        try:
            return attempt()
        except Exception as error:
            if _machine_at_fault(error, local):
                raise _machine_fault(uri, Failure.of("fetch", error)) from error
            if pause is None or not _may_pass(error):
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _machine_fault(uri: str, failure: Failure) -> PixdexError:
    return PixdexError(
        f"{uri} cannot be fetched on this machine ({failure}): mend the machine "
        "or remove the object, then run the same command again to go on from here"
    )


def _machine_at_fault(error: Exception, local: bool) -> bool:
    if isinstance(error, MemoryError):
        return True
    # s3fs reports every answer that it does not know as EIO: only of a local file does that mean the disk.
    return isinstance(error, OSError) and error.errno in (_MACHINE_FAULTS | _DISK_FAULTS if local else _MACHINE_FAULTS)


def _may_pass(error: Exception) -> bool:
    """Whether a remote object may be there at the next try."""
    status = getattr(error, "status", None) or getattr(error, "code", None)  # of aiohttp; of gcsfs
    if isinstance(status, int) and 400 <= status < 500:
        return status in _PASSING_STATUS
    # Not only OSError: a server that hangs up is an error of the client library's own kind.
    return not isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | ValueError | ImportError)
