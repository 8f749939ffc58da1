"""Reads the file of an item's picture, wherever it is: at a place of its own, on the web, or in a file with others."""

import contextlib
import errno
import time
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from transforms.errors import PixdexError
from transforms.records import Request
from transforms.rejects import Failure
from transforms.serving.faults import NoPictureError, NotReachedError
from transforms.shards import ready_files
from transforms.storage import addresses, tar_members
from transforms.storage.outside import Outside
from transforms.storage.uris import ObjectTooLargeError
from transforms.tasks.embed import fetch, item_picture
from transforms.tasks.embed.limits import ItemLimits
from transforms.web.costs import MoreRoomError
from transforms.web.limits import WebLimits

_FETCH_SECONDS: Final = 15.0

_OF_A_FILE: Final = frozenset({None, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO})
"""Numbers of errors of one file of this machine: without a number, it is none that can be read, or it grows."""

_OF_ITS_OWN: Final = frozenset({"BadURL", "HTMLPage", "ObjectTooLargeError", "PrivateAddress", "TooManyRedirects"})
"""What is wrong with one picture on the web, whoever asks; of what its server answers, the status tells."""


def read(uri: str, request: Request, outside: Outside, limit: int) -> bytes:
    """Returns the file of a picture.

    Cost: of one in a column of parquet, the pages of its row group up to its row.

    Raises:
        NoPictureError: it may not be read, is not there, is damaged, or has more than `limit` bytes.
        NotReachedError: what it lies in cannot be read now, which says nothing about the picture.
    """
    if (why := outside.refusal(uri)) is not None:
        raise NoPictureError(f"the picture is not read, since it {why}")
    if addresses.is_web(uri):
        return _from_web(uri, limit, trusted=outside.trusted)
    try:
        return item_picture.read(uri, request, limit)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        what = Failure.of("fetch", error)
        if _is_of_the_picture(error, is_local=uri.startswith("file://")):
            raise NoPictureError(f"the picture cannot be read ({what})") from error
        raise NotReachedError(f"the picture cannot be read now ({what}): look at its store, and who may") from error


def version(uri: str, outside: Outside) -> str | None:
    """Returns which version of a file of this machine a picture is, or is in; None: it lies elsewhere, or is not there.

    Cost: the file is looked at.
    """
    if not uri.startswith("file://") or outside.refusal(uri) is not None:
        return None
    for name in dict.fromkeys((uri, tar_members.archive_of(uri), uri.rpartition("#")[0])):
        with contextlib.suppress(OSError, ValueError):
            return ready_files.stat(name)[1]
    return None


def _is_of_the_picture(error: Exception, *, is_local: bool) -> bool:
    """Whether an error is none of what the picture lies in: a store, a disk, a mount, or what this machine may read."""
    if isinstance(error, PixdexError):  # of a file of parquet: its reason is its cause, or the row is not in it
        cause = error.__cause__
        return not isinstance(cause, Exception) or _is_of_the_picture(cause, is_local=is_local)
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError | ObjectTooLargeError):
        return True
    if isinstance(error, pa.ArrowInvalid):
        return True
    # Clients of stores have errors of any kind, of these, too, where they find no credentials.
    return is_local and (isinstance(error, ValueError) or (type(error) is OSError and error.errno in _OF_A_FILE))


def _from_web(uri: str, limit: int, *, trusted: bool) -> bytes:
    limits = ItemLimits(_FETCH_SECONDS, limit, web=WebLimits(allow_private=trusted))
    try:
        fetched = fetch.from_web(uri, limits, _Clock(), limit)
    except MoreRoomError as error:
        raise NoPictureError(f"the picture has more than {limit:,} bytes") from error
    if not isinstance(fetched, Failure):
        return fetched
    if fetched.type in _OF_ITS_OWN or (fetched.type == "HTTPError" and _is_lasting(fetched.message)):
        raise NoPictureError(f"the picture cannot be fetched ({fetched})")
    raise NotReachedError(f"the picture cannot be fetched now ({fetched})")


def _is_lasting(message: str) -> bool:
    """Whether what a server answered, a status and its words, is so however often it is asked."""
    from transforms.web.faults import of_status  # noqa: PLC0415 - as `fetch` does: few roots have pictures on the web

    return of_status(int(message.partition(" ")[0]), None).rule == "reject"


class _Clock:
    """The time of one picture, as `transforms.web` counts it."""

    def __init__(self) -> None:
        self._since, self._waited = time.monotonic(), 0.0

    def spent(self) -> float:
        return time.monotonic() - self._since - self._waited

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - began
