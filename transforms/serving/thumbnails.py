"""Pictures of items as small JPEG or PNG files of our own making: nothing of a foreign file reaches a browser."""

import hashlib
import io
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
import PIL.Image

from transforms.pictures.guard import How
from transforms.pictures.guards import Decoders
from transforms.rejects import Failure
from transforms.search.metadata import is_of_no_picture
from transforms.serving import pictures
from transforms.serving.faults import NoPictureError
from transforms.serving.limits import Limits
from transforms.serving.opened import Opened

USUAL: Final = 320
"""Pixels of a thumbnail's longer side: sharp at the size that pages show, on dense screens, too."""

LEAST: Final = 16
MOST: Final = 1024
"""And what `size` may be."""

_COLOURS: Final = 1 << 12
"""With more it is a photograph, which is smaller as JPEG."""

_FAULT_SECONDS: Final = 30.0
"""A picture that cannot be read is not tried again within so many."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture: its file, what that is, and a name of its content."""

    data: bytes
    media_type: str
    tag: str


@dataclass(frozen=True)
class _Fault:
    """Why there is none, until when."""

    why: str
    until: float


class Thumbnails:
    """Makes thumbnails, and keeps the last of them. Threads may share it."""

    def __init__(self, decoders: Decoders, limits: Limits) -> None:
        """Has none yet."""
        self._decoders, self._limits = decoders, limits
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], Thumbnail | _Fault] = OrderedDict()
        self._bytes = 0

    def of(self, opened: Opened, row: int, side: int) -> Thumbnail:
        """Returns the picture of a row, upright, whole, of at most `side` pixels each way; never larger than it is.

        Raises:
            NoPictureError: no row has that id, or none that may be seen, or its picture is not there or damaged.
            NotReachedError: its picture cannot be read now; it is tried again whenever it is asked for.
            PixdexError: the root is damaged, or this machine is at fault.
        """
        if not opened.has(row):
            raise NoPictureError(f"no item has the id {row}, or it is hidden or gone")
        table = opened.searcher.table_of(np.array([row], np.int64), ["key", "uri"])
        key, uri = (table[name][0].as_py() for name in ("key", "uri"))
        # A picture that a reindex finds changed has another row; a file that is replaced meanwhile, another version.
        place = uri, row, side, opened.outside, pictures.version(uri, opened.outside)
        with self._lock:
            known = self._kept.get(place)
            if known is not None:
                self._kept.move_to_end(place)
        if isinstance(known, _Fault) and time.monotonic() < known.until:
            raise NoPictureError(known.why)
        if isinstance(known, Thumbnail):
            return known
        try:
            made = self._made(opened, key, uri, side)
        except NoPictureError as error:
            self._keep(place, _Fault(str(error), time.monotonic() + _FAULT_SECONDS))
            raise
        self._keep(place, made)
        return made

    def _keep(self, place: tuple[object, ...], made: Thumbnail | _Fault) -> None:
        with self._lock:
            self._bytes += _size_of(made) - _size_of(self._kept.pop(place, None))
            self._kept[place] = made
            while self._bytes > self._limits.kept_bytes:
                self._bytes -= _size_of(self._kept.popitem(last=False)[1])

    def _made(self, opened: Opened, key: str, uri: str, side: int) -> Thumbnail:
        if is_of_no_picture(key, uri):
            raise NoPictureError("the item is a row of a file, and names no picture")
        request = opened.generation.request
        data = pictures.read(uri, request, opened.outside, self._limits.picture_bytes)
        # Two sizes of decoding, so that processes are shared.
        target = USUAL if side <= USUAL else MOST
        how = How(request.encoder.pixel_limit, target, "pad", self._limits.seconds, is_fitted=False)
        picture = self._decoders.decode(how, data)
        if isinstance(picture, Failure):
            raise NoPictureError(f"the picture cannot be read ({picture})")
        return _saved(picture, side)


def _size_of(kept: Thumbnail | _Fault | None) -> int:
    return 0 if kept is None else 512 + len(kept.data if isinstance(kept, Thumbnail) else kept.why)


def _saved(picture: PIL.Image.Image, side: int) -> Thumbnail:
    picture.thumbnail((side, side))
    kinds = [("jpeg", _file_of(picture, "jpeg"))]
    if picture.getcolors(_COLOURS) is not None:
        kinds.append(("png", _file_of(picture, "png")))
    kind, data = min(kinds, key=lambda one: len(one[1]))
    return Thumbnail(data, f"image/{kind}", hashlib.sha256(data).hexdigest()[:32])


def _file_of(picture: PIL.Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, quality=85, optimize=True)
    return stream.getvalue()
