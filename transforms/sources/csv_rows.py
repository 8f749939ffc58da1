"""CSV files: each row is an item, with a picture, a text, keywords, or several of them.

Cells are strings and stay as they are spelled (`007` stays `007`). The other columns become metadata. A row that does
not fit the header is kept as an item that cannot be embedded, so that counts add up.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from fsspec.implementations.local import LocalFileSystem

from transforms.errors import UsageError
from transforms.records import Source
from transforms.shards import row_versions
from transforms.sources import blank_texts, csv_records, items, keys
from transforms.sources.picture_versions import PictureVersions
from transforms.storage import uris

_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class CsvListing:
    """Lists the rows of one CSV file.

    Cost: the file is read once; what is held of it in memory is a batch of `csv_records`, and about 150 bytes for
    every row that has no primary key. Pictures are asked for as `PictureVersions` says.
    """

    source: Source

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:  # fsspec is untyped
        return uris.filesystem_of(self.source.pattern)

    @cached_property
    def _beginning(self) -> tuple[csv_records.Dialect, list[str]]:
        """How the file is written, and its header."""
        source = self.source
        columns = (source.image_column, source.text_column, source.keyword_column, source.key_column)
        try:
            filesystem, path = self._filesystem
            if source.pattern.startswith("file://") and Path(path).is_fifo():
                raise ValueError("it is a pipe, and is read more than once: write it to a file first")
            with filesystem.open(path, "rb") as stream:
                asked = [column for column in columns if column]
                dialect = csv_records.read_dialect(stream, source.pattern, asked)
                return dialect, csv_records.header_of(stream, source.pattern, dialect)
        except OSError as error:
            reason = error.strerror or "cannot be opened"
            raise UsageError(f"--csv {source.pattern}: {reason}; name a file that can be read") from error
        except (ImportError, ValueError) as error:
            raise UsageError(f"--csv {source.pattern}: {error}") from error

    def header(self) -> list[str]:
        """Returns the column names as the file spells them.

        Raises:
            UsageError: the file is missing, empty, no CSV or no UTF-8.
        """
        return self._beginning[1]

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
        """Reads the rows as item batches, in the order of the file, but that rows that do not fit follow their batch.

        Raises:
            UsageError: the file is no CSV or no UTF-8.
        """
        dialect, header = self._beginning
        names = _positions(header)
        seen: Counter[str] = Counter()
        versions = PictureVersions()
        filesystem, path = self._filesystem
        with filesystem.open(path, "rb") as stream:
            for batch in csv_records.batches(stream, self.source.pattern, dialect):
                if batch.lines:
                    yield self._table(header, pa.table(batch.columns, names), batch.lines, None, seen, versions)
                if batch.odd:
                    texts = pa.array([text for _, _, text in batch.odd], pa.string())
                    cells = [texts, *(pa.nulls(len(texts), pa.string()) for _ in header[1:])]
                    problems = pa.array(
                        [
                            f"WrongNumberOfCells: the row has {count} cells, the header {len(header)}"
                            for _, count, _ in batch.odd
                        ],
                        pa.string(),
                    )
                    lines = [line for line, _, _ in batch.odd]
                    yield self._table(header, pa.table(cells, names), lines, problems, seen, versions)

    def _table(
        self,
        header: Sequence[str],
        rows: pa.Table,
        lines: Sequence[int],
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
        pictures: list[str | None] = [None] * len(rows)
        if problem is None:
            if source.image_column:
                image, picture_version = self._pictures(cells[source.image_column], versions)
                version = pc.if_else(
                    pc.is_valid(image),
                    pc.binary_join_element_wise(version, "+", picture_version, "", null_handling="replace"),
                    version,
                )
                pictures = pc.binary_join_element_wise(image, picture_version, _SEPARATOR).to_pylist()
                uri = pc.coalesce(image, uri)
            text = blank_texts.as_null(cells[source.text_column]) if source.text_column else None
            if source.keyword_column:
                keywords = split_keywords(cells[source.keyword_column], source.keyword_separator)
            words = [cells[column] for column in (source.text_column, source.keyword_column) if column]
            version = row_versions.joined(version, pictures, _joined(words) if words else [None] * len(rows))
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
            line=pa.array(lines, pa.int64()),
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
            there = ", ".join(header)
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


def split_keywords(cells: pa.Array, separator: str) -> pa.Array:
    """Splits cells into lists of keywords, trimmed, without blank ones; a cell without any becomes null."""
    parts = pc.split_pattern(pc.fill_null(cells, ""), separator)
    owner = pc.list_parent_indices(parts)
    words = pc.utf8_trim_whitespace(parts.flatten())
    kept = pc.is_valid(blank_texts.as_null(words))
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
    whole = _joined([column.combine_chunks() for column in rows.columns])
    return pa.array([xxhash.xxh3_128_hexdigest(text.encode()) for text in whole], pa.string())


def _joined(cells: Sequence[pa.Array]) -> list[str]:
    texts: list[str] = pc.binary_join_element_wise(*cells, _SEPARATOR, null_handling="replace").to_pylist()
    return texts
