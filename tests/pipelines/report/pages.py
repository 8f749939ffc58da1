"""Reports as a browser would read them: what they say, what they would load, and whether they are well-formed."""

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.corpora import write_csv, write_pictures

TINY = ("--encoder", "tests.encoders:TinyEncoder", "--no-progress")
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\u202e</style></title>'
"""A caption, a key, a name of a file: whatever comes from outside may be this."""

_VOID = {"meta", "br", "img", "circle", "rect", "line", "polyline", "polygon"}


@dataclass
class Page(HTMLParser):
    """What was read of a page.

    Attributes:
        values: of its `<data>` elements, by what they are of.
        loads: addresses that a browser would ask for, or lead to.
        tags: names of all elements, each once.
        handlers: attributes that would run something.
        faults: what is not well-formed.
        text: what is to be read.
    """

    values: dict[str, list[str]] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    handlers: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    text: str = ""
    styles: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    def of(cls, text: str) -> "Page":
        page = cls()
        page.feed(text)
        page.close()
        page.faults += [f"<{tag}> is never closed" for tag in page._open]
        page.loads += re.findall(r"url\(\s*['\"]?([^'\")]*)", page.styles) + re.findall(r"@import\s+(\S+)", page.styles)
        return page

    @classmethod
    def at(cls, file: Path) -> "Page":
        return cls.of(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.add(tag)
        self.handlers += [name for name in known if name.startswith("on")]
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.styles += known.get("style") or ""
        if tag == "data":
            self.values.setdefault(known["data-of"] or "", []).append(known["value"] or "")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            inside = self._open[-1] if self._open else "nothing"
            self.faults.append(f"</{tag}> ends <{inside}>, line {self.getpos()[0]}")
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles += data
        else:
            self.text += data


def value_at(said: Any, path: str) -> Any:
    """What a record as JSON has it says at a path of names and places with dots between."""
    for name in path.split("."):
        said = said[int(name)] if isinstance(said, list) else said[name]
    return said


def last_line(out: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(out.splitlines()[-1])
    return record


def write_hostile_corpus(folder: Path, count: int = 60) -> Path:
    """Pictures, of which one is none and two are the same file, with texts of which one is hostile."""
    pictures = write_pictures(folder / "pictures", count)
    pictures[3].write_bytes(b"no picture")
    pictures[7].write_bytes(pictures[8].read_bytes())
    csv = write_csv(folder / "rows.csv", pictures)
    quoted = HOSTILE.replace('"', '""')
    csv.write_text(csv.read_text().replace(",text 0,", f',"{quoted}",').replace("text 1,", "text 1 \N{SNOWMAN},"))
    return csv
