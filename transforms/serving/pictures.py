"""Reads the file of an item's picture, wherever it is: at a place of its own, on the web, or in a file with others."""

import contextlib
import time
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from transforms.records import Request
from transforms.rejects import Failure
from transforms.serving.faults import NoPictureError
from transforms.shards import ready_files
from transforms.storage import addresses, uris
from transforms.storage.outside import Outside
from transforms.tasks.embed import fetch
from transforms.tasks.embed.inside import PicturesInside
from transforms.tasks.embed.limits import ItemLimits
from transforms.web.costs import MoreRoomError
from transforms.web.limits import WebLimits

_FETCH_SECONDS: Final = 15.0


def read(uri: str, request: Request, outside: Outside, limit: int) -> bytes:
    """Returns the file of a picture.

    Cost: of one in a column of parquet, the pages of its row group up to its row.

    Raises:
        NoPictureError: it may not be read, cannot be, or has more than `limit` bytes.
        PixdexError: this machine is at fault.
    """
    if (why := outside.refusal(uri)) is not None:
        raise NoPictureError(f"the picture is not read, since it {why}")
    if addresses.is_web(uri):
        return _from_web(uri, limit, trusted=outside.trusted)
    try:
        column = _column_of(uri, request)
        if column is None:
            return uris.read(uri, limit)
        located = PicturesInside({uri: column}).locate(uri, limit)
        assert located is not None  # only one on the web is none
        return located.read(limit)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise NoPictureError(f"the picture cannot be read ({Failure.of('fetch', error)})") from error


def _column_of(uri: str, request: Request) -> str | None:
    """The column of parquet that a picture is in, if it is in one."""
    file, _, row = uri.rpartition("#")
    if not row.isdecimal():
        return None
    for source in request.sources:
        if source.kind == "parquet" and source.image_bytes and source.image_column is not None:
            if not uris.matches(source.pattern, file):
                continue
            with ready_files.opened(file) as opened:
                schema = opened.schema_arrow
                if source.image_column in schema.names:
                    is_struct = pa.types.is_struct(schema.field(source.image_column).type)
                    return f"{source.image_column}.bytes" if is_struct else source.image_column
    return None


def _from_web(uri: str, limit: int, *, trusted: bool) -> bytes:
    limits = ItemLimits(_FETCH_SECONDS, limit, web=WebLimits(allow_private=trusted))
    try:
        fetched = fetch.from_web(uri, limits, _Clock(), limit)
    except MoreRoomError as error:
        raise NoPictureError(f"the picture has more than {limit:,} bytes") from error
    if isinstance(fetched, Failure):
        raise NoPictureError(f"the picture cannot be fetched ({fetched})")
    return fetched


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
