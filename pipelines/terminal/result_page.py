"""One HTML page of result pictures, complete in itself: it opens from a disk, offline, and can be mailed."""

import base64
import contextlib
import html
import io
import os
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_from_bytes

import PIL.Image

from transforms.errors import UsageError
from transforms.pictures import decode
from transforms.search.hits import Hit
from transforms.storage import uris

_SIDE = 320
"""Pixels of a thumbnail's longer side: sharp at the size shown, also on dense screens."""

_READERS = 8
_LINKED = ("file", "http", "https")
_NO_TEXT = re.compile("[\ud800-\udfff]")
"""What stands in a command line's words for bytes that are no UTF-8; no page can hold it."""


@dataclass(frozen=True)
class Answer:
    """One query with its results.

    `query` is the text that was searched for, or what the picture is called; `picture` is the URI of a query picture.
    """

    query: str
    hits: Sequence[Hit]
    picture: str | None = None


def write(file: Path, answers: Sequence[Answer], *, title: str, note: str, nearest: str = "cosine") -> None:
    """Writes the page, all of it or nothing.

    Args:
        file: where to; what is there is replaced.
        answers: queries with their results, in the order shown.
        title, note: heading of the page, and the line below it.
        nearest: what the scores are.

    Cost: reads every picture shown; about 15 KB of page a picture.

    Raises:
        UsageError: the file cannot be written.
    """
    data = page(answers, title=title, note=note, nearest=nearest).encode()
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


def page(answers: Sequence[Answer], *, title: str, note: str, nearest: str = "cosine") -> str:
    """Returns the page; a placeholder stands for a picture that cannot be read, and � for bytes that are no text."""
    wanted = dict.fromkeys(
        uri for answer in answers for uri in [answer.picture, *(hit.uri for hit in answer.hits)] if uri is not None
    )
    with ThreadPoolExecutor(_READERS) as pool:
        thumbnails = dict(zip(wanted, pool.map(_thumbnail, wanted), strict=True))
    sections = "\n".join(_section(answer, thumbnails, nearest) for answer in answers)
    text = _PAGE.format(title=html.escape(title), note=html.escape(note), style=_STYLE, sections=sections)
    return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def link(uri: str) -> str | None:
    """Returns the address at which a browser opens a file of a source; None when browsers cannot.

    Nothing in a URI of a source is quoted, so spaces, #, ? and % are here.

    >>> link("file:///data/50% off #1.png")
    'file:///data/50%25%20off%20%231.png'
    """
    protocol, _, path = uri.partition("://")
    if protocol not in _LINKED:
        return None
    if protocol == "file":
        return "file://" + quote_from_bytes(os.fsencode(uris.existing_path(path)))
    return f"{protocol}://{quote(path, safe='/:?&=#%@+,;~!$()*[]')}"


def _thumbnail(uri: str) -> str | None:
    """The picture as a data URL, or None when there is none to be read."""
    try:
        picture = decode.decode(uris.read(uri), target=_SIDE, mode="pad")
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


def _section(answer: Answer, thumbnails: dict[str, str | None], nearest: str) -> str:
    count = len(answer.hits)
    query = ""
    if answer.picture is not None:
        query = f'<figure class="query">{_image(thumbnails[answer.picture], answer.query)}</figure>'
    kind = "Picture" if answer.picture is not None else "Text"
    found = "nothing found" if not count else f"{count} nearest by {html.escape(nearest)}"
    cards = "\n".join(_card(hit, thumbnails[hit.uri]) for hit in answer.hits)
    return (
        f'<section>\n<header class="asked">{query}<div><p class="kind">{kind}</p>'
        f'<h2 dir="auto">{html.escape(answer.query)}</h2><p class="found">{found}</p></div></header>\n'
        f'<ol class="grid">\n{cards}\n</ol>\n</section>'
    )


def _card(hit: Hit, thumbnail: str | None) -> str:
    name = label(hit)
    caption = hit.caption or ""
    worded = thumbnail is None and hit.modality != "image"
    shown = _text("words", caption or name) if worded else _image(thumbnail, caption or name)
    address = link(hit.uri)
    if address is not None and (thumbnail is not None or hit.modality == "image"):
        shown = f'<a class="tile" href="{html.escape(address)}">{shown}</a>'
    else:
        shown = f'<span class="tile">{shown}</span>'
    lines = [] if worded and name == caption else [("name", name)]
    if caption not in ("", name) and not worded:
        lines.append(("caption", caption))
    below = "".join(_text(kind, text) for kind, text in lines)
    return (
        f'<li title="{html.escape(hit.uri)}">{shown}{below}<span class="line"><span>{hit.rank}</span>'
        f'<span>{html.escape(hit.modality)}</span><span class="score">{hit.score:.3f}</span></span></li>'
    )


def _text(kind: str, text: str) -> str:
    """A text that the page cuts where it is long; it is whole in the tip."""
    whole = html.escape(text)
    return f'<span class="{kind}" dir="auto" title="{whole}">{whole}</span>'


def label(hit: Hit) -> str:
    """Returns what a person calls a hit: its name, its caption, or the last part of its URI."""
    with contextlib.suppress(KeyError):
        if hit.columns["name"]:
            return str(hit.columns["name"])
    return hit.caption or hit.place.rstrip("/").rpartition("/")[2]


def _image(thumbnail: str | None, text: str) -> str:
    if thumbnail is None:
        return '<span class="missing" role="img" aria-label="picture not readable">picture not readable</span>'
    return f'<img src="{thumbnail}" alt="{html.escape(text)}" loading="lazy">'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header class="top"><h1>{title}</h1><p>{note}</p></header>
{sections}
</main>
</body>
</html>
"""

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f5f2; --card: #ffffff; --ink: #1d1c1a; --soft: #6d6a64; --line: #e5e2dc;
  --tint: #ece9ff; --tint-ink: #4331b8; --shadow: 0 1px 2px rgb(30 25 15 / .06), 0 6px 18px rgb(30 25 15 / .06);
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131316; --card: #1d1d22; --ink: #ecebe8; --soft: #9c9aa3; --line: #2e2e36;
    --tint: #2c2850; --tint-ink: #c3baff; --shadow: 0 1px 2px rgb(0 0 0 / .4);
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  background: var(--page); color: var(--ink); line-height: 1.45; -webkit-text-size-adjust: 100%;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK KR", sans-serif;
}
main { max-width: 1240px; margin: 0 auto; padding: clamp(20px, 4vw, 56px) clamp(16px, 4vw, 40px) 72px; }
h1 { font-size: clamp(1.5rem, 3.4vw, 2.1rem); font-weight: 680; letter-spacing: -.02em; }
.top p { color: var(--soft); margin-top: 4px; overflow-wrap: anywhere; }
section { margin-top: clamp(32px, 5vw, 56px); }
.asked { display: flex; align-items: center; gap: 18px; padding-bottom: 14px; border-bottom: 1px solid var(--line); }
.asked > div { min-width: 0; }
.kind { font-size: .72rem; font-weight: 650; letter-spacing: .09em; text-transform: uppercase; color: var(--tint-ink); }
h2 { font-size: clamp(1.15rem, 2.4vw, 1.5rem); font-weight: 640; letter-spacing: -.01em; overflow-wrap: anywhere; }
.found { color: var(--soft); font-size: .88rem; }
.query {
  flex: none; width: 92px; height: 92px; border-radius: 14px; overflow: hidden; background: #fff;
  outline: 3px solid var(--tint-ink); outline-offset: 2px; margin: 5px;
}
.query img { width: 100%; height: 100%; object-fit: contain; display: block; }
.grid {
  list-style: none; padding: 0; margin-top: 20px; display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(168px, 1fr));
}
li {
  background: var(--card); border: 1px solid var(--line); border-radius: 14px; overflow: hidden;
  box-shadow: var(--shadow); display: flex; flex-direction: column; transition: transform .15s ease;
}
li:has(a:hover) { transform: translateY(-2px); }
.tile { display: block; position: relative; aspect-ratio: 1; background: #fff; color: inherit; text-decoration: none; }
.tile:focus-visible { outline: 3px solid var(--tint-ink); outline-offset: -3px; }
.tile img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; display: block; }
.tile:has(.words), .tile:has(.missing) { background: var(--tint); color: var(--tint-ink); }
.words, .missing {
  display: grid; align-content: safe center; justify-items: center; height: 100%; padding: 14px; text-align: center;
}
.words { position: absolute; inset: 0; overflow: hidden; font-size: .95rem; overflow-wrap: anywhere; }
.missing { font-size: .8rem; opacity: .75; }
.query .missing { background: var(--tint); color: var(--tint-ink); padding: 4px; font-size: .68rem; }
.name {
  font-weight: 580; font-size: .92rem; line-height: 1.3; margin: 10px 12px 0; overflow-wrap: anywhere;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden;
}
.line {
  display: flex; align-items: center; justify-content: space-between; margin-top: auto; padding: 8px 12px 10px;
  color: var(--soft); font-size: .76rem; font-variant-numeric: tabular-nums;
}
.score { color: var(--tint-ink); background: var(--tint); padding: 1px 7px; border-radius: 99px; }
.caption {
  color: var(--soft); font-size: .82rem; margin: 2px 12px 0; overflow-wrap: anywhere;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden;
}
@media (max-width: 520px) {
  .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; margin-top: 14px; }
  .query { width: 68px; height: 68px; }
  .name { font-size: .86rem; margin: 8px 10px 0; }
  .caption { margin: 2px 10px 0; font-size: .78rem; } .line { padding: 6px 10px 8px; }
}
@media (prefers-reduced-motion: reduce) { li { transition: none; } }
"""
