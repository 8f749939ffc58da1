"""JSON Lines as a file of rows: one object a line, whose fields are the columns.

Numbers stay as they are spelled, nested values are their JSON text, and a field that is not there is null. A line that
is no such object is kept as a row that cannot be embedded, so that counts add up.
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final

import pyarrow as pa
import xxhash

from transforms.errors import UsageError
from transforms.sources import csv_records, packed
from transforms.sources.json_objects import BadObjectError, ObjectReader
from transforms.sources.row_files import Rows, joined
from transforms.sources.words import keywords_of

LINE_BYTES = 16 << 20
"""Of the longest line that is read; a longer one is rejected."""

BATCH_BYTES = 8 << 20
"""A batch ends with the line that reaches it, or with `_BATCH_LINES`."""

_BATCH_LINES: Final = 8192

FIELDS: Final = 1000
"""Names that the fields of a file may have in all: each is a column of every row."""

_FLAG: Final = "--jsonl"
_HEAD_LINES: Final = 1000
_HEAD_BYTES: Final = 1 << 20
_READER: Final = ObjectReader("line")


@dataclass
class _Batch:
    """Lines that were read: sound ones by their fields, and the others."""

    lines: list[int] = field(default_factory=list)
    cells: list[dict[str, str | None]] = field(default_factory=list)
    keywords: list[Any] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    bad_lines: list[int] = field(default_factory=list)
    bad_content: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class JsonlFile:
    """One file of objects.

    Attributes:
        uri: of the file.
        texts: fields that must be strings, or numbers, where they are there.
        keywords: the field of keywords, which may be a list of strings, or a string that is split.
        separator: what it is split on.

    Cost: the file is read once, and each line by two readers, since only one of them keeps how values are spelled and
    only the other sees a name that is there twice; what is held is a batch of 8 MiB, or the longest line.
    """

    uri: str
    texts: tuple[str, ...] = ()
    keywords: str | None = None
    separator: str = ","

    def header(self, wanted: Iterable[str]) -> list[str]:
        """Returns the fields of the first objects; the rest is read only where one of `wanted` is not among them."""
        names: dict[str, None] = {}
        missing, objects, why, last = set(wanted), 0, "", 0
        with packed.opened(self.uri, _FLAG) as stream:
            csv_records.check_is_text(stream.read(_HEAD_BYTES), self.uri, _FLAG)
            stream.seek(0)
            for number, line, _ in _lines(stream):
                if not last and line is not None and line.strip() in (b"[", b"{"):
                    raise UsageError(
                        f"{_FLAG} {self.uri} has values of several lines: write one object a line, for example with "
                        "jq -c '.[]'"
                    )
                last = number
                if number > _HEAD_LINES and not (objects and missing):
                    break
                try:
                    found = _object(line)
                except BadObjectError as error:
                    why = why or f"line {number}: {error}"
                else:
                    objects += 1
                    self._add(names, found)
                    missing -= found.keys()
        if last and not objects:
            raise UsageError(
                f"{_FLAG} {self.uri} holds no object ({why}): write one a line, for example with jq -c '.[]'"
            )
        return list(names)

    def rows(self) -> Iterator[Rows]:
        """Reads the lines; those that are no objects follow their batch."""
        names: dict[str, None] = {}
        with packed.opened(self.uri, _FLAG) as stream:
            batch, lines, size = _Batch(), 0, 0
            for number, line, content in _lines(stream):
                lines, size = lines + 1, size + len(line or b"")
                self._take(batch, number, line, content)
                if size >= BATCH_BYTES or lines == _BATCH_LINES:
                    yield from self._rows(batch, names)
                    batch, lines, size = _Batch(), 0, 0
            yield from self._rows(batch, names)

    def _take(self, batch: _Batch, number: int, line: bytes | None, content: str) -> None:
        try:
            found = _object(line)
            _READER.check_texts(found, self.texts, self.keywords)
        except BadObjectError as error:
            batch.bad_lines.append(number)
            batch.bad_content.append(content)
            batch.problems.append(str(error))
            return
        cells = {name: cell for name, (_, cell) in found.items()}
        batch.lines.append(number)
        batch.cells.append(cells)
        batch.content.append(xxhash.xxh3_128_hexdigest(joined(cells).encode()))
        if self.keywords is not None:
            value = found.get(self.keywords, (None, None))[0]
            batch.keywords.append(value if isinstance(value, list) else cells.get(self.keywords))

    def _rows(self, batch: _Batch, names: dict[str, None]) -> Iterator[Rows]:
        for cells in batch.cells:
            self._add(names, cells)
        header = list(names)
        if batch.lines:
            columns = [pa.array([cells.get(name) for cells in batch.cells], pa.string()) for name in header]
            content = pa.array(batch.content, pa.string())
            keywords = keywords_of(batch.keywords, self.separator) if self.keywords is not None else None
            yield Rows(header, columns, content, batch.lines, keywords=keywords)
        if batch.problems:
            columns = [pa.nulls(len(batch.problems), pa.string()) for _ in header]
            content, problems = pa.array(batch.bad_content, pa.string()), pa.array(batch.problems, pa.string())
            yield Rows(header, columns, content, batch.bad_lines, problems)

    def _add(self, names: dict[str, None], more: Iterable[str]) -> None:
        names.update(dict.fromkeys(more))
        if len(names) > FIELDS:
            raise UsageError(
                f"{_FLAG} {self.uri} has more than {FIELDS} different fields: each would be a column; nest those that "
                "are data, so that their JSON is one field"
            )


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes | None, str]]:
    """Yields number, bytes (None: too many) and a hash of every line that is not blank."""
    number = 0
    while line := stream.readline(LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        digest = xxhash.xxh3_128(line)
        is_long = len(line) > LINE_BYTES
        while is_long and not line.endswith(b"\n") and (line := stream.readline(LINE_BYTES)):
            digest.update(line)
        if is_long or line.strip():
            yield number, None if is_long else line, digest.hexdigest()


def _object(line: bytes | None) -> dict[str, tuple[Any, str | None]]:
    if line is None:
        raise BadObjectError(f"TooLong: the line has more than {LINE_BYTES} bytes")
    return _READER.read(line)
