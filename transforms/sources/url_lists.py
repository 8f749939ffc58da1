"""Lists of URLs: a text with one URL a line as a file of rows, and which format a list has by its ending.

A list in one of the other formats is read by the module of that format. What is no URL is kept as a row that cannot be
embedded, so that counts add up.
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

from transforms.errors import UsageError
from transforms.sources import csv_records, packed
from transforms.sources.row_files import Rows, hashes
from transforms.storage import addresses, uris

Form = Literal["txt", "csv", "jsonl", "parquet"]

COLUMN: Final = "url"
"""Where the URLs of a list are if nobody says otherwise, and always in one of lines."""

LINE_BYTES: Final = 64 << 10
"""Of the longest line that is read; a longer one is rejected."""

_ELSEWHERE: Final = frozenset({*addresses.WEB, "s3", "s3a", "gs", "gcs"})
"""Protocols that a list may name wherever it lies."""

_BATCH_LINES: Final = 8192
_HEAD_BYTES: Final = 1 << 20
_SHOWN: Final = 80

_FORMS: Final[dict[str, Form]] = {
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def form_of(flag: str, uri: str) -> Form:
    """Returns the format of a list.

    Raises:
        UsageError: its ending tells none.
    """
    name = packed.without_ending(uri).lower()
    form = next((form for ending, form in _FORMS.items() if name.endswith(ending)), None)
    if form is None:
        endings = ", ".join(_FORMS)
        raise UsageError(f"{flag} {uri} has no ending that tells its format: it may be {endings}, with .gz or .zst")
    return form


def pattern_of(location: str) -> str:
    """Returns the absolute URL of a list, a glob, or the parquet files below a folder, as downloaders leave them."""
    pattern = uris.absolute(location)
    if pattern.startswith(addresses.URLS):  # which know no folders
        return pattern
    try:
        filesystem, path = uris.filesystem_of(pattern)
        is_folder = filesystem.isdir(path)
    except Exception:  # noqa: BLE001 - every object store raises its own; reading it says what is wrong
        return pattern
    return f"{pattern.rstrip('/')}/**/*.parquet" if is_folder else pattern


def problems_of(cells: pa.Array, file: str) -> tuple[pa.Array, pa.Array]:
    """Returns cells of a list without those that name nothing to be fetched, and what is wrong with these.

    A list that is no file of this machine may name the web, buckets, and what lies where it does, but no local files.
    """
    own = file.partition("://")[0].lower()
    may_name = None if own in ("file", "local") else _ELSEWHERE | {own}
    texts = [(cell or "").strip() for cell in cells.to_pylist()]
    problems = [_problem(text, may_name) for text in texts]
    urls = [None if problem else text for text, problem in zip(texts, problems, strict=True)]
    return pa.array(urls, pa.string()), pa.array(problems, pa.string())


def _problem(text: str, may_name: frozenset[str] | None) -> str | None:
    protocol, colon, _ = text.partition("://")
    if text and not colon:
        return f"NoURL: {text[:_SHOWN]!r} is no URL, such as https://host/picture.jpg"
    if text and may_name is not None and protocol.lower() not in may_name:
        return f"NotFromElsewhere: {text[:_SHOWN]!r} may only be named by a list that is a file of this machine"
    return None


@dataclass(frozen=True)
class UrlLines:
    """A text with one URL a line; blank lines, and those that begin with `#`, are none.

    Cost: the file is read once; what is held is a batch of lines.
    """

    uri: str
    flag: str

    def header(self, wanted: Iterable[str]) -> list[str]:
        """Returns the name of its one column."""
        with packed.opened(self.uri, self.flag) as stream:
            csv_records.check_is_text(stream.read(_HEAD_BYTES), self.uri, self.flag)
        return [COLUMN]

    def rows(self) -> Iterator[Rows]:
        """Reads the URLs; lines that are no text, or too long, follow their batch."""
        with packed.opened(self.uri, self.flag) as stream:
            batch = _Batch({}, {})
            number = 0
            while line := stream.readline(LINE_BYTES + 1):
                number += 1
                is_long = len(line) > LINE_BYTES
                rest = line
                while is_long and not rest.endswith(b"\n") and (rest := stream.readline(LINE_BYTES)):
                    pass
                batch.take(number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
                if len(batch.urls) + len(batch.problems) >= _BATCH_LINES:
                    yield from batch.rows()
                    batch = _Batch({}, {})
            yield from batch.rows()


@dataclass(frozen=True)
class _Batch:
    """Lines that were read, by number: URLs, and why another is none."""

    urls: dict[int, str]
    problems: dict[int, str]

    def take(self, number: int, line: bytes) -> None:
        if len(line) > LINE_BYTES:
            self.problems[number] = f"TooLong: the line has more than {LINE_BYTES} bytes"
            return
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            self.problems[number] = f"NotUtf8: byte {error.start + 1} of the line is not UTF-8"
            return
        if text and not text.startswith("#"):
            self.urls[number] = text

    def rows(self) -> Iterator[Rows]:
        if self.urls:
            texts = list(self.urls.values())
            yield Rows([COLUMN], [pa.array(texts, pa.string())], hashes(texts), list(self.urls))
        if self.problems:
            nothing, why = pa.nulls(len(self.problems), pa.string()), list(self.problems.values())
            content = hashes(f"{number} {problem}" for number, problem in self.problems.items())
            yield Rows([COLUMN], [nothing], content, list(self.problems), pa.array(why, pa.string()))
