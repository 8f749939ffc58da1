"""CSV files record by record: what a file is, and its rows by Python's own strict reader, each with its line.

Nothing is taken for what it is not. A file that is compressed twice, a workbook, or in an encoding that only looks
like text is refused with what to convert it from. The delimiter is what the header and the columns that were asked for
say. A file has one kind of line end, that of its header; another one inside a cell is text. A quotation mark that
nothing closes, or that is closed by anything but a delimiter or a line end, is refused with its line: it would swallow
other rows.
"""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Final

import pyarrow as pa
import pyarrow.csv as pa_csv

from transforms.errors import UsageError
from transforms.sources import packed

RECORD_LIMIT = 16 << 20
"""Characters of the longest record, which is held in memory."""

BATCH_CHARACTERS = 16 << 20
"""A batch ends with the record that reaches it."""

_HEAD_BYTES: Final = 1 << 20
_SHOWN: Final = 60
_DELIMITERS: Final = (",", "\t", ";", "|")
_SEP_LINE: Final = re.compile(r"sep=([\t!#-~])(?=[\r\n])", re.IGNORECASE)
"""Any mark of ASCII but a quotation mark and a blank may stand between cells."""

_MAGIC: Final = (
    (b"\x1f\x8b", "is compressed with gzip: unpack it with gunzip"),
    (b"BZh", "is compressed with bzip2: unpack it with bunzip2"),
    (b"\xfd7zXZ\0", "is compressed with xz: unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it with unzstd"),
    (b"PK\x03\x04", "is a zip or an Excel workbook: unpack it, or save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook: save it as CSV UTF-8"),
    (b"PAR1", "is a parquet file: give it to --parquet, or to --vectors if it holds embeddings"),
    (codecs.BOM_UTF32_LE, "is UTF-32: convert it with iconv -f UTF-32 -t UTF-8"),
    (codecs.BOM_UTF32_BE, "is UTF-32: convert it with iconv -f UTF-32 -t UTF-8"),
    (codecs.BOM_UTF16_LE, "is not UTF-8: convert it with iconv -f UTF-16 -t UTF-8 (Excel's Unicode text)"),
    (codecs.BOM_UTF16_BE, "is not UTF-8: convert it with iconv -f UTF-16 -t UTF-8 (Excel's Unicode text)"),
)
"""What a file that is no CSV begins with. BZh and PAR1 could begin a header; such a header is refused, too."""

_NOT_UTF8: Final = (
    "is not UTF-8: convert it, for example with iconv -f CP949 -t UTF-8 (Korean), "
    "iconv -f UTF-16 -t UTF-8 (Excel's Unicode text) or iconv -f LATIN1 -t UTF-8"
)

_ISO_2022: Final = re.compile(r"\x1b(\$[@AB]|\$[()][@-D G-M]|\([BIJ])")
"""The escape sequences that announce a character set in ISO-2022-KR, -JP and -CN."""

_HZ: Final = re.compile(rb"~\{(?:[!-}][!-~])+~\}")
_UTF7: Final = re.compile(rb"\+([A-Za-z0-9+/]*)(-?)")

_FOREIGN: Final = {"\n": r"\r(?!\n\Z)", "\r\n": r"\r(?!\n\Z)|(?<!\r)\n", "\r": r"\n"}
"""The line ends that are text, by the one of the file; a line that ends as on Windows ends in any file of `\\n`."""

_MARK: Final = "\ufeff"

_STAND_INS: Final = {"\r": "\ud800", "\n": "\ud801"}
"""For line ends that are text while `csv` reads: halves of surrogate pairs, which no UTF-8 holds."""


@dataclass(frozen=True)
class Dialect:
    r"""How a file is written.

    Attributes:
        delimiter: one character between cells.
        line_end: `\n`, `\r\n` or `\r`.
        announced: whether a line `sep=…`, which Excel writes, stands before the header.
    """

    delimiter: str
    line_end: str
    announced: bool = False


@dataclass(frozen=True)
class Batch:
    """Some records that follow one another.

    Attributes:
        columns: the cells, as strings, of the records that have as many as the header, one array a column.
        lines: the line, counted from 1, on which each of them begins.
        odd: records with another number of cells: the line, how many cells, and the text as it stands in the file.
    """

    columns: list[pa.Array]
    lines: list[int]
    odd: list[tuple[int, int, str]]


def dialect_of(head: bytes, file: str, columns: Sequence[str]) -> Dialect:
    """Tells how a file is written from its first MiB.

    Args:
        head: the first bytes of the file.
        file: its name, of which `.tsv` and `.tab` say that tabs stand between cells.
        columns: the columns that were asked for: where several delimiters are possible, the one that gives them all.

    Raises:
        UsageError: it is no CSV, or in an encoding that is not UTF-8.
    """
    check_is_text(head, file, "--csv")
    if encoding := _seven_bit_encoding(head):
        raise UsageError(f"--csv {file} is not UTF-8 but {encoding}: convert it with iconv -f {encoding} -t UTF-8")
    text = head.decode("utf-8-sig", errors="replace")
    if announced := _SEP_LINE.match(text):
        return Dialect(announced[1], _line_end(text), announced=True)
    line_end = _line_end(text)
    tabs_first = packed.without_ending(file.lower()).endswith((".tsv", ".tab"))
    order = sorted(_DELIMITERS, key=lambda delimiter: tabs_first and delimiter != "\t")
    headers = {delimiter: _first_record(text, Dialect(delimiter, line_end)) for delimiter in order}
    fitting = [delimiter for delimiter in order if columns and set(columns) <= set(headers[delimiter])]
    split = [delimiter for delimiter in order if len(headers[delimiter]) > 1]
    return Dialect((fitting or split or order)[0], line_end)


def check_is_text(head: bytes, file: str, flag: str) -> None:
    """Refuses what begins as no file of lines in UTF-8 does.

    Raises:
        UsageError: naming what it is, and what to do with it.
    """
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise UsageError(f"{flag} {file} {what}")
    if head.count(0) > len(head) // 4:
        raise UsageError(f"{flag} {file} is not UTF-8: convert it with iconv -f UTF-16LE -t UTF-8, or UTF-16BE")


def read_dialect(stream: IO[bytes], file: str, columns: Sequence[str]) -> Dialect:
    """Tells how the file of a stream is written, and goes back to its start; raises as `dialect_of`."""
    dialect = dialect_of(stream.read(_HEAD_BYTES), file, columns)
    stream.seek(0)
    return dialect


def header_of(stream: IO[bytes], file: str, dialect: Dialect) -> list[str]:
    """Reads the names of the columns as the file spells them; none of an empty file.

    Raises:
        UsageError: the header is no CSV or no UTF-8.
    """
    with _lines_of(stream, file, dialect) as lines:
        return [_as_written(name) for name in next(filter(None, lines.records()), [])]


def batches(stream: IO[bytes], file: str, dialect: Dialect) -> Iterator[Batch]:
    """Reads the records below the header; blank lines are none.

    Cost: one pass of `csv`, which says where records end, and one of Arrow, which makes arrays of a text four times as
    fast as of Python's strings. What is held is a batch of 16 million characters, or the longest record.

    Raises:
        UsageError: a quotation mark swallows rows, a record is longer than `RECORD_LIMIT`, or the file is no UTF-8.
    """
    with _lines_of(stream, file, dialect) as lines:
        records = lines.records()
        width, rows, odd = len(next(filter(None, records), [])), list[int](), list[tuple[int, int, str]]()
        lines.forget()
        line = lines.read + 1
        for cells in records:
            if len(cells) == width:
                rows.append(line)
            elif cells:
                odd.append((line, len(cells), lines.take_record().rstrip("\r\n")))
            lines.begin_record()
            line = lines.read + 1
            if lines.characters >= BATCH_CHARACTERS:
                yield Batch(_arrays(lines, dialect, len(rows), width), rows, odd)
                rows, odd = [], []
                lines.forget()
        if rows or odd:
            yield Batch(_arrays(lines, dialect, len(rows), width), rows, odd)


def _arrays(lines: "_Lines", dialect: Dialect, rows: int, width: int) -> list[pa.Array]:
    """Makes arrays of the records that are held; where Arrow would read something else, of what `csv` says."""
    if rows == 0:
        return [pa.array([], pa.string()) for _ in range(width)]
    if lines.disguised or lines.held[0].startswith(_MARK):  # which Arrow drops from the beginning of what it reads
        records = filter(None, csv.reader(map(lines.disguise, lines.held), delimiter=dialect.delimiter, strict=True))
        return [pa.array(map(_as_written, column), pa.string()) for column in zip(*records, strict=True)]
    content = "".join(lines.held).encode()
    names = [str(position) for position in range(width)]
    table = pa_csv.read_csv(
        io.BytesIO(content),
        pa_csv.ReadOptions(column_names=names, block_size=len(content) + 1, use_threads=False),
        pa_csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
        pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    assert len(table) == rows, f"csv and Arrow disagree: {rows} and {len(table)} rows"
    return [column.combine_chunks() for column in table.columns]


@contextmanager
def _lines_of(stream: IO[bytes], file: str, dialect: Dialect) -> Iterator["_Lines"]:
    """Opens a file for reading records, and says of what is wrong in one of them where it is."""
    csv.field_size_limit(max(csv.field_size_limit(), RECORD_LIMIT))
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=dialect.line_end)
    if dialect.announced:
        text.readline()
    lines = _Lines(text, file, dialect)
    try:
        yield lines
    except UnicodeDecodeError as error:
        raise UsageError(f"--csv {file} {_NOT_UTF8}") from error
    except csv.Error as error:
        raise UsageError(_broken(error, file, lines.first_of_record(), lines.take_record())) from error
    finally:
        text.detach()  # whoever opened the stream closes it


class _Lines:
    r"""Hands lines to `csv`, which takes any bare `\r` and `\n` for a line end, and holds those of a batch.

    Attributes:
        read: how many lines were read.
        held: the lines of the batch, as they are in the file.
        characters: how many characters they have.
        disguised: whether a line end that is text stands in one of them.
    """

    def __init__(self, text: io.TextIOWrapper, file: str, dialect: Dialect) -> None:
        self._text, self._file, self._delimiter = text, file, dialect.delimiter
        self._foreign = re.compile(_FOREIGN[dialect.line_end])
        self._rare = "\r" if dialect.line_end == "\n" else "\n"  # without it, no line end is foreign
        self.read = int(dialect.announced)
        self.held: list[str] = []
        self.forget()

    def records(self) -> Iterator[list[str]]:
        """Reads records; a blank line is one without cells."""
        return csv.reader(self, delimiter=self._delimiter, strict=True)

    def forget(self) -> None:
        """Begins a batch, and a record."""
        self.held.clear()
        self.characters, self.disguised = 0, False
        self.begin_record()

    def begin_record(self) -> None:
        """Begins a record at the line that is read next."""
        self._record, self._before = len(self.held), self.characters

    def first_of_record(self) -> int:
        """Returns the line, counted from 1, on which the record at hand begins."""
        return self.read - (len(self.held) - self._record) + 1

    def take_record(self) -> str:
        """Returns the record at hand as it stands in the file, and takes it out of the batch."""
        text = "".join(self.held[self._record :])
        del self.held[self._record :]
        self.characters = self._before
        return text

    def disguise(self, line: str) -> str:
        """Puts stand-ins for the line ends that are text."""
        return self._foreign.sub(lambda found: _STAND_INS[found[0]], line)

    def __iter__(self) -> Iterator[str]:
        for line in iter(partial(self._text.readline, RECORD_LIMIT + 1), ""):
            self.read += 1
            self.held.append(line)
            self.characters += len(line)
            if self.characters - self._before > RECORD_LIMIT:
                raise UsageError(
                    f"--csv {self._file} has a row of more than {RECORD_LIMIT} characters, which begins in line "
                    f"{self.first_of_record()}: shorten it, or close the quotation mark that is open"
                )
            if "\x1b" in line and (escape := _ISO_2022.search(line)):
                encoding = _iso_2022_name(escape[1])
                raise UsageError(
                    f"--csv {self._file} is not UTF-8: line {self.read} is {encoding}: "
                    f"convert it with iconv -f {encoding} -t UTF-8"
                )
            if self._rare in line and self._foreign.search(line):
                self.disguised = True
                yield self.disguise(line)
            else:
                yield line


def _as_written(cell: str) -> str:
    for line_end, stand_in in _STAND_INS.items():
        cell = cell.replace(stand_in, line_end)
    return cell


def _broken(error: csv.Error, file: str, line: int, raw: str) -> str:
    """Says which quotation mark is wrong, and where."""
    begins = repr(raw.strip()[:_SHOWN])
    if "end of data" in str(error):
        return f"--csv {file}: no quotation mark closes the one in line {line}, which begins {begins}: mend that row"
    if "expected after" in str(error):
        return (
            f"--csv {file}: a quotation mark in the row of line {line}, which begins {begins}, is closed inside text: "
            "write it twice where it is text, and close it before a delimiter or a line end"
        )
    return f"--csv {file}: line {line} cannot be read as CSV ({error}): mend the file"


def _first_record(text: str, dialect: Dialect) -> list[str]:
    try:
        return next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter)), [])
    except csv.Error:
        return []


def _line_end(text: str) -> str:
    r"""Returns the first line end outside of quotes, `\n` where there is none."""
    quoted, before = False, "\n"
    for place, character in enumerate(text):
        if character == '"' and (quoted or before in _DELIMITERS or before in '\r\n"'):
            quoted = not quoted
        elif character in "\r\n" and not quoted:
            return "\r\n" if text[place : place + 2] == "\r\n" else character
        before = character
    return "\n"


def _seven_bit_encoding(head: bytes) -> str:
    """Names the encoding of bytes that look like ASCII and stand for other text; "" for what is as it looks."""
    if escape := _ISO_2022.search(head.decode("latin-1")):
        return _iso_2022_name(escape[1])
    if not head.isascii():
        return ""
    if any(_letters(run[0], "hz") for run in _HZ.finditer(head)):
        return "HZ"
    runs = [_letters(run[0], "utf-7") for run in _UTF7.finditer(head) if run[0] != b"+-"]
    # One run alone may be chance (`x+foo-y`): a Latin letter or two of any kind are not, where all other runs decode.
    sure = any(len(run) > 1 or "\x7f" < run < "\u0250" for run in runs)
    return "UTF-7" if sure and all(runs) else ""


def _letters(run: bytes, encoding: str) -> str:
    """Decodes bytes that may be letters beyond ASCII; "" where they are not."""
    try:
        text = run.decode(encoding)
    except UnicodeDecodeError:
        return ""
    beyond = not text.isascii() and any(unicodedata.category(letter)[0] == "L" for letter in text)
    return text if beyond else ""


def _iso_2022_name(escape: str) -> str:
    if escape == "$)C":
        return "ISO-2022-KR"
    return "ISO-2022-CN" if escape in ("$)A", "$)G", "$*H") else "ISO-2022-JP"
