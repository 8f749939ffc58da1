"""One HTML page of result pictures, complete in itself: it opens from a disk, offline, and can be mailed."""

import base64
import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_from_bytes

import jinja2
import PIL.Image

from transforms.errors import UsageError
from transforms.pictures import decode
from transforms.search.hits import Hit
from transforms.storage import tar_members, uris
from transforms.storage.outside import Outside

_SIDE = 320
"""Pixels of a thumbnail's longer side: sharp at the size shown, also on dense screens."""

_PAGE = "result_page.html.jinja"
_READERS = 8
_CAPTIONS = 6
"""Of a picture that several items have, beside its own."""

_LINKED = ("file", "http", "https")
_NO_TEXT = re.compile("[\ud800-\udfff]")
"""What stands in a command line's words for bytes that are no UTF-8; no page can hold it."""


@dataclass(frozen=True)
class Answer:
    """One query with its results.

    `query` is the text that was searched for, or what the picture or the vector is called; `picture` is the URI of a
    query picture.
    """

    query: str
    hits: Sequence[Hit]
    picture: str | None = None
    is_vector: bool = False


def write(file: Path, text: str) -> None:
    """Writes a page, all of it or nothing; what is there is replaced.

    Raises:
        UsageError: the file cannot be written.
    """
    data = text.encode()
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor has no path
                stream.write(data)
            mask = os.umask(0)
            os.umask(mask)
            Path(temporary).chmod(0o666 & ~mask)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"--html {file} cannot be written ({error.strerror or error}): choose another file") from error


def page(
    answers: Sequence[Answer],
    *,
    outside: Outside,
    title: str,
    note: str,
    nearest: str = "cosine",
    columns: Sequence[str] = (),
) -> str:
    """Returns the page; a placeholder stands for a picture that is not read, and � for bytes that are no text.

    Args:
        answers: queries with their results, in the order shown.
        outside: which pictures of results may be read. Those of queries are named by who asks, and are read anyhow.
        title, note: heading of the page, and the line below it.
        nearest: what the scores are.
        columns: of the source, shown below each result where it has them.

    Cost: reads every picture shown; about 15 KB of page a picture.
    """
    found = dict.fromkeys(hit.uri for answer in answers for hit in answer.hits)
    asked = dict.fromkeys(answer.picture for answer in answers if answer.picture is not None)
    with ThreadPoolExecutor(_READERS) as pool:
        tiles = dict(zip(found, pool.map(lambda uri: _Tile.of(uri, outside), found), strict=True))
        pictures = dict(zip(asked, pool.map(lambda uri: _thumbnail(uri, uris.read), asked), strict=True))
    sections = [_Section.of(answer, tiles, pictures, columns) for answer in answers]
    text = _template().render(title=title, note=note, nearest=nearest, sections=sections)
    return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("pipelines.terminal", ".")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(_PAGE)


def link(uri: str) -> str | None:
    """Returns the address at which a browser opens a file of a source; None when browsers cannot.

    Nothing in a URI of a source is quoted, so spaces, #, ? and % are here.

    >>> link("file:///data/50% off #1.png")
    'file:///data/50%25%20off%20%231.png'
    """
    protocol, _, path = uri.partition("://")
    if protocol not in _LINKED or tar_members.place_of(uri) is not None:
        return None
    if protocol == "file":
        return "file://" + quote_from_bytes(os.fsencode(uris.existing_path(path)))
    return f"{protocol}://{quote(path, safe='/:?&=#%@+,;~!$()*[]')}"


def unread(answers: Sequence[Answer], outside: Outside) -> list[str]:
    """Returns a line for each picture of results that is not read, though it may be there, with why that is."""
    found = dict.fromkeys(hit.uri for answer in answers for hit in answer.hits if hit.modality == "image")
    with ThreadPoolExecutor(_READERS) as pool:
        return [f"{uri} {why}" for uri, why in zip(found, pool.map(outside.refusal, found), strict=True) if why]


@dataclass(frozen=True)
class _Tile:
    """A picture of a result, as a data URL, and where a browser opens it; None where it cannot be, or must not."""

    thumbnail: str | None
    address: str | None

    @classmethod
    def of(cls, uri: str, outside: Outside) -> "_Tile":
        if outside.refusal(uri) is not None:
            return cls(None, None)
        return cls(_thumbnail(uri, outside.read), link(uri))


def _thumbnail(uri: str, read: Callable[[str], bytes]) -> str | None:
    """The picture as a data URL, or None when there is none to be read."""
    try:
        picture = decode.decode(read(uri), target=_SIDE, mode="pad")
        picture.thumbnail((_SIDE, _SIDE))
    except Exception:  # noqa: BLE001 - hostile files raise anything; the page shows a placeholder
        return None
    # Photographs are smaller as JPEG, drawings as PNG.
    kinds = [(kind, _saved(picture, kind)) for kind in ("jpeg", "png")]
    kind, data = min(kinds, key=lambda saved: len(saved[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _saved(picture: PIL.Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, quality=85, optimize=True)
    return stream.getvalue()


@dataclass(frozen=True)
class _Card:
    """What the page shows of a hit: a tile, which is a picture or words, and lines below it, each of a kind."""

    hit: Hit
    words: str
    is_worded: bool
    thumbnail: str | None
    address: str | None
    lines: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, hit: Hit, tile: _Tile, columns: Sequence[str]) -> "_Card":
        name, caption, thumbnail = label(hit), hit.caption or "", tile.thumbnail
        is_worded = thumbnail is None and hit.modality != "image"
        lines = [] if is_worded and name == caption else [("name", name)]
        if caption not in ("", name) and not is_worded:
            lines.append(("caption", caption))
        others = [other for other in hit.captions if other not in (name, caption)]
        lines += [("caption", other) for other in others[:_CAPTIONS]]
        if len(others) > _CAPTIONS:
            lines.append(("caption", f"and {len(others) - _CAPTIONS} more"))
        shown = ((column, hit.columns.get(column)) for column in columns)
        lines += [("caption", f"{column}: {value}") for column, value in shown if value is not None and value != name]
        address = tile.address if not is_worded else None
        return cls(hit, caption or name, is_worded, thumbnail, address, tuple(lines))


@dataclass(frozen=True)
class _Section:
    """What the page shows of a query."""

    query: str
    kind: str
    thumbnail: str | None
    cards: tuple[_Card, ...]

    @classmethod
    def of(
        cls, answer: Answer, tiles: dict[str, _Tile], pictures: dict[str, str | None], columns: Sequence[str]
    ) -> "_Section":
        picture = None if answer.picture is None else pictures[answer.picture]
        cards = tuple(_Card.of(hit, tiles[hit.uri], columns) for hit in answer.hits)
        kind = "Vector" if answer.is_vector else "Text" if answer.picture is None else "Picture"
        return cls(answer.query, kind, picture, cards)


def label(hit: Hit) -> str:
    """Returns what a person calls a hit: its name, its caption, or the last part of its URI."""
    with contextlib.suppress(KeyError):
        if hit.columns["name"]:
            return str(hit.columns["name"])
    return hit.caption or hit.place.rstrip("/").rpartition("/")[2]
