"""Small pictures for a page: fetched within a time, decoded by pixdex's own decoder; a broken one is a placeholder."""

import base64
import contextlib
import io
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from xxhash import xxh3_128_hexdigest

from transforms.pictures import decode
from transforms.storage import addresses, uris
from transforms.storage.outside import Outside

SIDE: Final = 160
"""Pixels of the longer side: sharp at the size shown, also on dense screens."""

_QUALITY: Final = 72
_BYTES: Final = 64 << 20
"""Of a file; a larger one is not read."""

_PIXELS: Final = 64_000_000
_READERS: Final = 4
_WEB_SECONDS: Final = 4.0
_SECONDS: Final = 12.0
"""For all pictures of a page: those that have not begun by then are left out."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture that was looked at.

    Attributes:
        url: a data URL with a JPEG; None: there is nothing to be shown.
        content: the hash of its file; None: it was not read.
    """

    url: str | None = None
    content: str | None = None


@dataclass
class _Clock:
    """The time of one file on the web."""

    began: float = field(default_factory=time.monotonic)

    def spent(self) -> float:
        """Returns the seconds since it began."""
        return time.monotonic() - self.began

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts what it waits for its host's turn, too: a page does not wait."""
        yield


def thumbnails_of(addresses_of: Iterable[str], outside: Outside) -> dict[str, Thumbnail]:
    """Returns a thumbnail of each picture, by its URI.

    Args:
        addresses_of: URIs, each of which is read once.
        outside: which of them may be read.

    Cost: reads every picture, four at a time, and begins none after 12 seconds; about 5 KB of page a picture.
    """
    wanted, until = list(dict.fromkeys(addresses_of)), time.monotonic() + _SECONDS

    def look(uri: str) -> Thumbnail:
        return Thumbnail() if time.monotonic() > until else _thumbnail(uri, outside)

    with ThreadPoolExecutor(_READERS, "thumbnails") as pool:
        return dict(zip(wanted, pool.map(look, wanted), strict=True))


def _thumbnail(uri: str, outside: Outside) -> Thumbnail:
    content = None
    try:
        if outside.refusal(uri) is not None:
            return Thumbnail()
        data = _read(uri)
        content = xxh3_128_hexdigest(data)
        picture = decode.decode(data, target=SIDE, mode="pad", pixel_limit=_PIXELS)
        picture.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        picture.save(stream, "jpeg", quality=_QUALITY, optimize=True)
    except Exception:  # noqa: BLE001 - hostile files, and clients of stores, raise anything; a placeholder stands there
        return Thumbnail(None, content)
    return Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}", content)


def _read(uri: str) -> bytes:
    if not addresses.is_web(uri):
        return uris.read(uri, _BYTES)
    from transforms.web.client import Wanted, client_of  # noqa: PLC0415 - few roots have pictures on the web
    from transforms.web.limits import WebLimits  # noqa: PLC0415

    return client_of(WebLimits()).get(Wanted(uri, _BYTES, _WEB_SECONDS, _Clock(), _BYTES))
