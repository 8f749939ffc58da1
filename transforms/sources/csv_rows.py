"""CSV files: each row is an item, with a picture, a text, keywords, or several of them.

Cells are strings and stay as they are spelled (`007` stays `007`). The other columns become metadata. A row that does
not fit the header is kept as an item that cannot be embedded, so that counts add up.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import xxhash
from fsspec.implementations.local import LocalFileSystem

from transforms.errors import UsageError
from transforms.records import Source
from transforms.sources import items, keys
from transforms.sources.picture_versions import PictureVersions
from transforms.storage import uris

_BLOCK_BYTES = 16 << 20
_SEPARATOR = "\x1f"
_SHOWN = 60


@dataclass(frozen=True)
class CsvListing:
    """Lists the rows of one CSV file.

    Cost: the file is read once, in blocks of 16 MiB; what is held of it in memory is a block, and about 150 bytes for
    every row that has no primary key. Pictures are asked for as `PictureVersions` says.
    """

    source: Source

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:  # fsspec is untyped
        return uris.filesystem_of(self.source.pattern)

    @property
    def _delimiter(self) -> str:
        return "\t" if self.source.pattern.lower().endswith((".tsv", ".tab")) else ","

    def header(self) -> list[str]:
        """Returns the column names as the file spells them.

        Raises:
            UsageError: the file is missing, empty or no UTF-8.
        """
        try:
            filesystem, path = self._filesystem
            with filesystem.open(path, "rb") as stream:
                text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
                return next(filter(None, csv.reader(text, delimiter=self._delimiter, strict=True)), [])
        except UnicodeDecodeError as error:
            raise self._not_utf8() from error
        except csv.Error as error:
            raise UsageError(
                f"--csv {self.source.pattern}: the header cannot be read ({error}): mend the file"
            ) from error
        except OSError as error:
            reason = error.strerror or "cannot be opened"
            raise UsageError(f"--csv {self.source.pattern}: {reason}; name a file that can be read") from error
        except (ImportError, ValueError) as error:
            raise UsageError(f"--csv {self.source.pattern}: {error}") from error

    def version(self) -> str:
        """Returns the version of the file as it is now.

        Raises:
            UsageError: it is not there.
        """
        filesystem, path = self._filesystem
        filesystem.invalidate_cache()
        try:
            local = isinstance(filesystem, LocalFileSystem)
            return uris.version(filesystem.info(uris.existing_path(path) if local else path))
        except OSError as error:
            reason = error.strerror or "cannot be opened"
            raise UsageError(f"--csv {self.source.pattern}: {reason}; name a file that can be read") from error

    def batches(self) -> Iterator[pa.Table]:
        """Reads the rows as item batches, in the order of the file, but that a row that does not fit ends its block.

        Raises:
            UsageError: the file is no CSV or no UTF-8.
        """
        header = self.header()
        seen: Counter[str] = Counter()
        versions = PictureVersions()
        for rows, problems in self._blocks(header):
            if len(rows):
                yield self._table(header, rows, None, seen, versions)
            if problems:
                first = pa.array([text for text, _ in problems], pa.string())
                cells = [first, *(pa.nulls(len(problems), pa.string()) for _ in header[1:])]
                broken = pa.array([problem for _, problem in problems], pa.string())
                table = pa.Table.from_arrays(cells, names=_positions(header))
                yield self._table(header, table, broken, seen, versions)

    def _blocks(self, header: Sequence[str]) -> Iterator[tuple[pa.Table, list[tuple[str, str]]]]:
        """Reads blocks of rows with every cell a string, and the rows that do not fit, each with its problem."""
        problems: list[tuple[str, str]] = []

        def keep(row: pa_csv.InvalidRow) -> str:
            problem = f"WrongNumberOfCells: the row has {row.actual_columns} cells, the header {row.expected_columns}"
            problems.append((row.text, problem))
            return "skip"

        names = _positions(header)
        filesystem, path = self._filesystem
        try:
            with filesystem.open(path, "rb") as stream:
                reader = pa_csv.open_csv(
                    stream,
                    read_options=pa_csv.ReadOptions(column_names=names, block_size=_BLOCK_BYTES, use_threads=False),
                    parse_options=pa_csv.ParseOptions(
                        delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=keep
                    ),
                    convert_options=pa_csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                    ),
                )
                skip = 1  # the header is the first row that Arrow reads
                for batch in reader:
                    rows = pa.Table.from_batches([batch]).slice(skip)
                    skip = max(0, skip - len(batch))
                    of_batch, problems[:] = list(problems), []
                    self._refuse_open_quotes(of_batch)
                    yield rows, of_batch
                if problems:
                    self._refuse_open_quotes(problems)
                    yield pa.Table.from_batches([], reader.schema), problems
        except pa.ArrowInvalid as error:
            if "UTF8" in str(error):
                raise self._not_utf8() from error
            if "straddl" in str(error):
                raise UsageError(
                    f"--csv {self.source.pattern} has a row of more than {_BLOCK_BYTES} bytes: "
                    "shorten it, or close the quotation mark that is open"
                ) from error
            raise UsageError(f"--csv {self.source.pattern} cannot be read as CSV ({error}): mend the file") from error

    def _table(
        self,
        header: Sequence[str],
        rows: pa.Table,
        problem: pa.Array | None,
        seen: Counter[str],
        versions: "PictureVersions",
    ) -> pa.Table:
        cells = dict(zip(header, (column.combine_chunks() for column in rows.columns), strict=True))
        source = self.source
        content = _content_hashes(rows)
        uri = pa.array([source.pattern] * len(rows), pa.string())
        version = pc.binary_join_element_wise("row:", content, "")
        image = text = keywords = None
        if problem is None:
            if source.image_column:
                image, picture_version = self._pictures(cells[source.image_column], versions)
                version = pc.if_else(
                    pc.is_valid(image),
                    pc.binary_join_element_wise(version, "+", picture_version, "", null_handling="replace"),
                    version,
                )
                uri = pc.coalesce(image, uri)
            text = _filled(cells[source.text_column]) if source.text_column else None
            if source.keyword_column:
                keywords = split_keywords(cells[source.keyword_column], source.keyword_separator)
        primary = pa.nulls(len(rows), pa.string())
        if source.key_column and problem is None:
            primary = _filled(cells[source.key_column])
        stored = items.column_names(header)
        return items.table_of(
            key=keys.nfc(pc.binary_join_element_wise(source.pattern, row_names(primary, content, seen), "#")),
            uri=uri,
            version=version,
            image=image,
            text=text,
            keywords=keywords,
            problem=problem,
            columns=dict(zip(stored, (column.combine_chunks() for column in rows.columns), strict=True)),
        )

    def _pictures(self, cells: pa.Array, versions: "PictureVersions") -> tuple[pa.Array, pa.Array]:
        """Returns the URI (null for an empty cell) and the version of every picture that the cells name."""
        image = [
            uris.join(self.source.pattern, cell.strip()) if cell and cell.strip() else None
            for cell in cells.to_pylist()
        ]
        version_of = versions.of(uri for uri in image if uri)
        return pa.array(image, pa.string()), pa.array([version_of.get(uri or "") for uri in image], pa.string())

    def _refuse_open_quotes(self, problems: Sequence[tuple[str, str]]) -> None:
        """Refuses a row that runs over lines with a quotation mark that nothing closes: it has swallowed other rows."""
        for text, _ in problems:
            if text.count('"') % 2 and "\n" in text.strip():
                raise UsageError(
                    f"--csv {self.source.pattern}: no quotation mark closes the one in the row that begins "
                    f"{text.strip()[:_SHOWN]!r}: mend that row"
                )

    def _not_utf8(self) -> UsageError:
        return UsageError(
            f"--csv {self.source.pattern} is not UTF-8: convert it, for example with iconv -f CP949 -t UTF-8 (Korean), "
            "iconv -f UTF-16 -t UTF-8 (Excel's Unicode text) or iconv -f LATIN1 -t UTF-8"
        )


def check(source: Source) -> None:
    """Refuses a CSV source that cannot work, before any work is done.

    Raises:
        UsageError: the file is missing or unreadable, a named column is not there (the message lists those that are),
            or no column is named to be embedded.
    """
    header = CsvListing(source).header()
    if not header:
        raise UsageError(f"--csv {source.pattern} is empty: its first line must name the columns")
    named = {
        "--image-column": source.image_column,
        "--text-column": source.text_column,
        "--keyword-column": source.keyword_column,
        "--key-column": source.key_column,
    }
    for flag, column in named.items():
        if column is not None and column not in header:
            there = ", ".join(header) + _separator_hint(header)
            raise UsageError(f"{flag} {column}: {source.pattern} has no such column; it has {there}")
        if column is not None and header.count(column) > 1:
            raise UsageError(f"{flag} {column}: {source.pattern} has {header.count(column)} such columns: rename one")
    if not (source.image_column or source.text_column or source.keyword_column):
        raise UsageError(
            f"--csv {source.pattern}: name what to embed with --image-column, --text-column or --keyword-column; "
            f"the columns are {', '.join(header)}"
        )
    if source.keyword_separator == "":
        raise UsageError("--keyword-separator is empty: give the character between keywords")


def _separator_hint(header: Sequence[str]) -> str:
    if len(header) > 1 or ";" not in header[0]:
        return ""
    return " (it seems to be separated by semicolons: convert it to commas, or to tabs as .tsv)"


def split_keywords(cells: pa.Array, separator: str) -> pa.Array:
    """Splits cells into lists of keywords, trimmed, without empty ones; a cell without any becomes null."""
    parts = pc.split_pattern(pc.fill_null(cells, ""), separator)
    owner = pc.list_parent_indices(parts)
    words = pc.utf8_trim_whitespace(parts.flatten())
    kept = pc.not_equal(words, "")
    counts = np.bincount(pc.filter(owner, kept).to_numpy(zero_copy_only=False), minlength=len(cells))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pc.filter(words, kept))
    return pc.if_else(pa.array(counts > 0), lists, pa.nulls(len(cells), lists.type))


def row_names(primary: pa.Array, content: pa.Array, seen: Counter[str]) -> pa.Array:
    """Names rows by primary key or, where that is null, by content: its hash, and how many alike came before.

    Only rows without a primary key are counted in `seen`.
    """
    names = primary.to_pylist()
    for place in np.flatnonzero(primary.is_null().to_numpy(zero_copy_only=False)).tolist():
        value = content[place].as_py()
        names[place] = f"{value}#{seen[value]}"
        seen[value] += 1
    return pa.array(names, pa.string())


def _filled(cells: pa.Array) -> pa.Array:
    """Returns cells with those that hold nothing but white space made null."""
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(cells), ""), pa.nulls(len(cells), pa.string()), cells)


def _positions(header: Sequence[str]) -> list[str]:
    return [str(position) for position in range(len(header))]


def _content_hashes(rows: pa.Table) -> pa.Array:
    """Returns a 128-bit hash, in hexadecimal, of the cells of every row."""
    cells = [column.combine_chunks() for column in rows.columns]
    whole = pc.binary_join_element_wise(*cells, _SEPARATOR, null_handling="replace")
    return pa.array([xxhash.xxh3_128_hexdigest(text.encode()) for text in whole.to_pylist()], pa.string())
