"""Small pictures for a page: read and decoded within a time, in a process of their own; a broken one is a placeholder.

With ready embeddings nobody has decoded these pictures before: one may crash its decoder, or keep it for ever.
"""

import base64
import contextlib
import io
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import PIL.Image
from xxhash import xxh3_128_hexdigest

from transforms.pictures.guard import How
from transforms.pictures.guards import Decoders
from transforms.records import Request
from transforms.rejects import Failure
from transforms.storage import addresses
from transforms.storage.outside import Outside
from transforms.tasks.embed import item_picture

SIDE: Final = 160
"""Pixels of the longer side: sharp at the size shown, also on dense screens."""

_QUALITY: Final = 72
_BYTES: Final = 32 << 20
"""Of a file; a larger one is not read."""

_BYTES_BEFORE: Final = 64 << 20
"""That are read for a picture which stands behind others in a row group of parquet."""

_PIXELS: Final = 40_000_000
"""20 bytes each at worst while they are decoded: 800 MB, as decoding may take in a build, which is over by then."""

_READERS: Final = 4
_DECODERS: Final = 1
"""Processes: one costs half a second of a processor, of which most is its start."""

_WEB_SECONDS: Final = 4.0
_DECODE_SECONDS: Final = 4.0
_SECONDS: Final = 12.0
"""For all pictures of a page: those that are not there by then are left out."""


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


def thumbnails_of(wanted: Iterable[str], request: Request, *, trusted: bool = False) -> dict[str, Thumbnail]:
    """Returns a thumbnail of each picture, by its URI.

    Args:
        wanted: URIs, each of which is read once.
        request: of the root, whose sources tell what may be read, and what is in a file with others.
        trusted: all of it may be.

    Cost: reads every picture, four at a time, and ends after 12 seconds, whatever a storage or a decoder does; of a
    processor half a second for the process that decodes; about 5 KB of page a picture.
    """
    made = dict.fromkeys(wanted, Thumbnail())
    if not made:
        return made
    making = _Making(list(made), request, Outside.of(request, trusted=trusted))
    return made | making.made()


class _Making:
    """Threads that make thumbnails, as long as there is time; one that a storage keeps for ever is left alone."""

    def __init__(self, wanted: list[str], request: Request, outside: Outside) -> None:
        self._wanted, self._request, self._outside = iter(wanted), request, outside
        self._until = time.monotonic() + _SECONDS
        self._lock = threading.Lock()
        self._made: dict[str, Thumbnail] = {}
        self._decoders = Decoders(_DECODERS)

    def made(self) -> dict[str, Thumbnail]:
        # No thread of a pool: the interpreter would wait for it.
        threads = [threading.Thread(target=self._work, name="thumbnails", daemon=True) for _ in range(_READERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self._until - time.monotonic()))
        self._decoders.close()
        with self._lock:
            return dict(self._made)

    def _work(self) -> None:
        while time.monotonic() < self._until:
            with self._lock:
                uri = next(self._wanted, None)
            if uri is None:
                return
            thumbnail = self._thumbnail(uri)
            with self._lock:
                self._made[uri] = thumbnail

    def _thumbnail(self, uri: str) -> Thumbnail:
        content = None
        try:
            if self._outside.refusal(uri) is not None:
                return Thumbnail()
            data = _read(uri, self._request)
            content = xxh3_128_hexdigest(data)
            if time.monotonic() > self._until:
                return Thumbnail(None, content)
            picture = self._decoders.decode(How(_PIXELS, SIDE, "pad", _DECODE_SECONDS, is_fitted=False), data)
            return Thumbnail(None if isinstance(picture, Failure) else _url_of(picture), content)
        except Exception:  # noqa: BLE001 - clients of stores raise anything; a placeholder stands there
            return Thumbnail(None, content)


def _url_of(picture: PIL.Image.Image) -> str:
    picture.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    picture.save(stream, "jpeg", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _read(uri: str, request: Request) -> bytes:
    if not addresses.is_web(uri):
        return item_picture.read(uri, request, _BYTES, most_before=_BYTES_BEFORE)
    from transforms.web.client import Wanted, client_of  # noqa: PLC0415 - few roots have pictures on the web
    from transforms.web.limits import WebLimits  # noqa: PLC0415 - as above

    return client_of(WebLimits()).get(Wanted(uri, _BYTES, _WEB_SECONDS, _Clock(), _BYTES))
