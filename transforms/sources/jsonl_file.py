"""JSON Lines as a file of rows: one object a line, whose fields are the columns.

Numbers stay as they are spelled, nested values are their JSON text, and a field that is not there is null. A line that
is no such object is kept as a row that cannot be embedded, so that counts add up.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, NoReturn

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from transforms.errors import UsageError
from transforms.sources import csv_records, packed
from transforms.sources.row_files import SEPARATOR, Rows
from transforms.sources.words import split_keywords, trimmed_keywords

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
_FIELDS_OF = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _BadLineError(ValueError):
    """What is wrong with a line, as `Type: message`."""


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
                except _BadLineError as error:
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
            for name in (*self.texts, *filter(None, [self.keywords])):
                value = found.get(name, (None, None))[0]
                if isinstance(value, list | dict) and not (name == self.keywords and _are_strings(value)):
                    raise _BadLineError(f"NoText: the field {name[:60]} is {_kind(value)}, and no text")
        except _BadLineError as error:
            batch.bad_lines.append(number)
            batch.bad_content.append(content)
            batch.problems.append(str(error))
            return
        cells = {name: cell for name, (_, cell) in found.items()}
        batch.lines.append(number)
        batch.cells.append(cells)
        # In the order of names, so that an object written in another order is the same.
        there = SEPARATOR.join(f"{name}{SEPARATOR}{cell}" for name, cell in sorted(cells.items()) if cell is not None)
        batch.content.append(xxhash.xxh3_128_hexdigest(there.encode()))
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
            keywords = self._words(batch.keywords) if self.keywords is not None else None
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

    def _words(self, values: Sequence[Any]) -> pa.Array:
        listed = pa.array([value if isinstance(value, list) else [] for value in values], pa.list_(pa.string()))
        cells = pa.array([None if isinstance(value, list) else value for value in values], pa.string())
        return pc.coalesce(trimmed_keywords(listed), split_keywords(cells, self.separator))


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
    """Returns the values of an object and how they are spelled.

    Raises:
        _BadLineError: it is none, or could be read in two ways.
    """
    if line is None:
        raise _BadLineError(f"TooLong: the line has more than {LINE_BYTES} bytes")
    try:
        values = _READER.decode(line.decode())
        if not isinstance(values, dict):
            raise _BadLineError(f"NoObject: the line is {_kind(values)}, and no object")
        spelled = _FIELDS_OF.decode(line)
        return {name: (value, _cell(name, value, spelled)) for name, value in values.items()}
    except _BadLineError:
        raise
    except msgspec.DecodeError as error:  # it is stricter with what Python's reader took
        half = b"\\ud" in line.lower()
        why = "LoneSurrogate: a text of the line has half of a character" if half else f"BadJson: {error}"
        raise _BadLineError(why) from error
    except UnicodeDecodeError as error:
        raise _BadLineError(f"NotUtf8: byte {error.start + 1} of the line is not UTF-8") from error
    except RecursionError as error:
        raise _BadLineError("TooDeep: the values of the line are nested too deeply") from error
    except ValueError as error:
        raise _BadLineError(f"BadJson: {str(error)[:120]}") from error


def _cell(name: str, value: Any, spelled: dict[str, msgspec.Raw]) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and not isinstance(value, _Number):
        return value
    return bytes(spelled[name]).decode().strip()


class _Number(str):
    """A number as it is spelled."""

    __slots__ = ()


def _number(text: str) -> _Number:
    if float(text) in (float("inf"), float("-inf")):
        raise _BadLineError(f"HugeNumber: {text[:20]}… is more than a number can be")
    return _Number(text)


def _constant(text: str) -> NoReturn:
    raise _BadLineError(f"BadJson: {text} is no JSON")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in found if names.count(name) > 1)
        raise _BadLineError(f"DoubleName: the line has the field {double[:60]!r} twice")
    return found


_READER: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_number, parse_float=_number, parse_constant=_constant
)


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and not isinstance(one, _Number) for one in value)


def _kind(value: Any) -> str:
    kinds = ((bool, "true or false"), (_Number, "a number"), (str, "a text"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")
