"""Files of rows: each row is an item, with a picture, a text, keywords, or several of them; the rest is metadata.

What a format is, its own module says (see `row_files`); what an item is of it is made here. A row that cannot be read
is kept as an item that cannot be embedded, so that counts add up.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem

from transforms.errors import PixdexError, UsageError
from transforms.nearest import no_column
from transforms.records import Source
from transforms.shards import row_versions
from transforms.sources import blank_texts, items, keys, listed, url_lists
from transforms.sources.csv_file import CsvFile
from transforms.sources.jsonl_file import JsonlFile
from transforms.sources.left_out import Tally
from transforms.sources.parquet_file import ParquetRows
from transforms.sources.picture_versions import PictureVersions
from transforms.sources.row_files import SEPARATOR, RowFile, Rows
from transforms.sources.url_lists import UrlLines
from transforms.sources.words import split_keywords
from transforms.storage import uris

_OPEN = ("jsonl", "tars")
"""Kinds of which the columns are known when all is read."""

_FLAG_OF_FORMAT = re.compile(r"^--(csv|jsonl|parquet|urls) ")

_EMPTY_FILES = 16
"""Files without a column that are looked through for one with columns."""


@dataclass(frozen=True)
class RowListing:
    """Lists the rows of the files of one source.

    Cost: a file is read once; what is held of it in memory is a batch of its format, and about 150 bytes for every row
    that has no primary key. Pictures are asked for as `PictureVersions` says.
    """

    source: Source

    def containers(self) -> list[str]:
        """Returns the URIs of its files, in order.

        Raises:
            UsageError: there is none.
        """
        return listed.row_files(f"--{self.source.kind}", self.source.pattern)

    def opened(self, uri: str, tally: Tally | None = None) -> RowFile:
        """Returns one of its files, of which nothing is read yet; `tally` counts what of a tar is left out."""
        source, form = self.source, self._form(uri)
        if form == "txt":
            return UrlLines(uri, self._flag)
        if form == "jsonl":
            texts = tuple(filter(None, (source.image_column, source.text_column)))
            return JsonlFile(uri, texts, source.keyword_column, source.keyword_separator)
        if form == "parquet":
            texts = tuple(filter(None, (source.text_column, source.key_column)))
            words = source.keyword_column, source.keyword_separator
            return ParquetRows(uri, source.image_column, source.image_bytes, texts, *words)
        if source.kind == "tars":
            from transforms.sources.tars.rows import TarRows  # noqa: PLC0415 - other rows need no Pillow

            texts = tuple(filter(None, (source.text_column,)))
            words = source.keyword_column, source.keyword_separator
            return TarRows(uri, texts, source.key_column, *words, tally=tally or Tally())
        return CsvFile(uri, tuple(filter(None, self.named().values())))

    @property
    def _flag(self) -> str:
        return f"--{self.source.kind}"

    def _form(self, uri: str) -> str:
        return url_lists.form_of(self._flag, uri) if self.source.kind == "urls" else self.source.kind

    def _refusal(self, error: PixdexError) -> UsageError:
        """What a file is refused with: readers of a format say its own flag, which need not be that of the source."""
        if isinstance(error, UsageError):
            return UsageError(_FLAG_OF_FORMAT.sub(f"{self._flag} ", str(error)))
        return UsageError(f"{self._flag} {error}")

    def named(self) -> dict[str, str | None]:
        """Returns the columns that the source names, by flag."""
        source = self.source
        return {
            "--image-column": source.image_column,
            "--text-column": source.text_column,
            "--keyword-column": source.keyword_column,
            "--key-column": source.key_column,
        }

    def header(self, uri: str) -> list[str]:
        """Returns the column names of a file as it spells them.

        Raises:
            UsageError: it is missing, or no file of its format.
        """
        flag = self._flag
        try:
            if uri.startswith("file://") and Path(uri.removeprefix("file://")).is_fifo():
                raise ValueError("it is a pipe, and is read more than once: write it to a file first")
            return self.opened(uri).header(filter(None, self.named().values()))
        except PixdexError as error:
            raise self._refusal(error) from error
        except OSError as error:
            reason = error.strerror or "cannot be opened"
            raise UsageError(f"{flag} {uri}: {reason}; name a file that can be read") from error
        except (ImportError, ValueError) as error:
            raise UsageError(f"{flag} {uri}: {error}") from error

    def version(self, uri: str) -> str:
        """Returns the version of a file as it is now.

        Raises:
            UsageError: it is not there.
        """
        filesystem, path = uris.filesystem_of(uri)
        filesystem.invalidate_cache()
        try:
            local = isinstance(filesystem, LocalFileSystem)
            return uris.version(filesystem.info(uris.existing_path(path) if local else path))
        except OSError as error:
            reason = error.strerror or "cannot be opened"
            raise UsageError(f"--{self.source.kind} {uri}: {reason}; name a file that can be read") from error

    def batches(self, uri: str, tally: Tally | None = None) -> Iterator[pa.Table]:
        """Reads the rows of a file as item batches, in its order, but that rows that do not fit follow their batch.

        Raises:
            UsageError: it is no file of its format, or damaged.
        """
        seen: Counter[str] = Counter()
        versions = PictureVersions()
        if self._form(uri) not in _OPEN:
            self.check_columns(uri, self.header(uri))
        try:
            for rows in self.opened(uri, tally).rows():
                yield self._table(uri, rows, seen, versions)
        except PixdexError as error:
            raise self._refusal(error) from error

    def check_columns(self, file: str, header: Sequence[str]) -> None:
        """Refuses a file that lacks a column that the source names, or has it twice; one without any has no rows.

        Raises:
            UsageError: naming the flag, and the columns that are there.
        """
        for flag, column in self.named().items():
            if column is not None and header and column not in header:
                raise UsageError(f"{flag} {column}: {file} {no_column(column, header)}")
            if column is not None and header.count(column) > 1:
                raise UsageError(f"{flag} {column}: {file} has {header.count(column)} such columns: rename one")

    def _table(self, file: str, rows: Rows, seen: Counter[str], versions: PictureVersions) -> pa.Table:
        cells = dict(zip(rows.names, rows.columns, strict=True))
        count = len(rows.content)

        def cells_of(column: str) -> pa.Array:
            return cells.get(column, pa.nulls(count, pa.string()))

        source = self.source
        lines = pa.nulls(count, pa.int64()) if rows.lines is None else pa.array(rows.lines, pa.int64())
        uri = pa.array([file] * count, pa.string())
        version = pc.binary_join_element_wise("row:", rows.content, "")
        image = text = keywords = None
        problems, pictures = rows.problems, rows.pictures
        if rows.problems is None:
            if rows.uris is not None:
                image, uri = rows.uris, pc.coalesce(rows.uris, uri)
            elif rows.inside is not None:
                uri = pc.binary_join_element_wise(file, pc.cast(pc.subtract(lines, 1), pa.string()), "#")
                image = pc.if_else(pc.is_valid(rows.inside), uri, pa.nulls(count, pa.string()))
            elif source.image_column:
                named = cells_of(source.image_column)
                if source.kind == "urls":
                    named, problems = url_lists.problems_of(named, file)
                    if source.missing_image == "text" and (source.text_column or source.keyword_column):
                        problems = None  # a row without a URL keeps its texts
                image, picture_version = _pictures(file, named, versions)
                version = pc.if_else(
                    pc.is_valid(image),
                    pc.binary_join_element_wise(version, "+", picture_version, "", null_handling="replace"),
                    version,
                )
                pictures = pc.binary_join_element_wise(image, picture_version, SEPARATOR)
                uri = pc.coalesce(image, uri)
            text = blank_texts.as_null(cells_of(source.text_column)) if source.text_column else None
            if source.keyword_column:
                keywords = rows.keywords
                if keywords is None:
                    keywords = split_keywords(cells_of(source.keyword_column), source.keyword_separator)
            nothing = [None] * count
            words = _words(*(nothing if part is None else part.to_pylist() for part in (text, keywords)))
            version = row_versions.joined(version, nothing if pictures is None else pictures.to_pylist(), words)
        primary = pa.nulls(count, pa.string()) if rows.own_names is None else rows.own_names
        if rows.own_names is None and source.key_column and rows.problems is None:
            primary = _filled(cells_of(source.key_column))
        return items.table_of(
            key=keys.nfc(pc.binary_join_element_wise(file, row_names(primary, rows.content, seen), "#")),
            uri=uri,
            version=version,
            image=image,
            text=text,
            keywords=keywords,
            problem=problems,
            line=lines,
            inside=rows.inside,
            caption=rows.captions,
            columns=dict(zip(items.column_names(rows.names), rows.columns, strict=True)),
        )


def _words(texts: Sequence[str | None], keywords: Sequence[Sequence[str] | None]) -> list[str | None]:
    """What is embedded of rows beside pictures, each in one string that no other row has."""
    return [repr((text, some)) if text or some else None for text, some in zip(texts, keywords, strict=True)]


def _pictures(file: str, cells: pa.Array, versions: PictureVersions) -> tuple[pa.Array, pa.Array]:
    """Returns the URI (null for an empty cell) and the version of every picture that cells of a file name."""
    image = [uris.join(file, cell.strip()) if cell and cell.strip() else None for cell in cells.to_pylist()]
    version_of = versions.of(uri for uri in image if uri)
    return pa.array(image, pa.string()), pa.array([version_of.get(uri or "") for uri in image], pa.string())


def of_what_is_there(source: Source) -> Source:
    """Returns a source that says whether its pictures are in its files; unchanged where they cannot be read.

    Cost: of parquet with pictures, one listing, and the footer of the first file.
    """
    listing = RowListing(source)
    if source.kind == "tars":
        return replace(source, image_column=None, image_bytes=True)
    if source.kind != "parquet" or source.image_column is None:
        return source
    try:
        first = listing.containers()[0]
        return replace(source, image_bytes=ParquetRows(first, source.image_column).holds_pictures())
    except PixdexError:
        return source  # `check` says what is wrong


def check(source: Source) -> None:
    """Refuses a source of rows that cannot work, before any work is done.

    Raises:
        UsageError: no file is there or readable, a named column is not there (the message lists those that are), or no
            column is named to be embedded.
    """
    listing, flag = RowListing(source), f"--{source.kind}"
    if source.keyword_separator == "":
        raise UsageError("--keyword-separator is empty: give the character between keywords")
    if source.kind == "tars":
        _check_tars(listing)
        return
    file, header, files = source.pattern, list[str](), listing.containers()
    if source.kind == "urls":
        for file in files:
            url_lists.form_of(flag, file)
    for file in files[:_EMPTY_FILES]:
        if header := listing.header(file):
            break
    if not header:
        first = "the file must name" if source.kind == "parquet" else "its first line must name"
        raise UsageError(f"{flag} {file} is empty: {first} the columns")
    listing.check_columns(file, header)
    if not (source.image_column or source.text_column or source.keyword_column):
        raise UsageError(
            f"{flag} {file}: name what to embed with --image-column, --text-column or --keyword-column; "
            f"the columns are {', '.join(header)}"
        )


def _check_tars(listing: RowListing) -> None:
    """Refuses tars of which the first that has samples lacks a column that is named; pictures are embedded anyhow."""
    for file in listing.containers()[:_EMPTY_FILES]:
        if header := listing.header(file):
            listing.check_columns(file, header)
            return
    named = next(((flag, column) for flag, column in listing.named().items() if column is not None), None)
    if named is not None:
        raise UsageError(f"{named[0]} {named[1]}: {file} has no column {named[1]}; it has no texts beside its pictures")


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
