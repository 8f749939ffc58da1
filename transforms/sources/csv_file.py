"""A CSV file as a file of rows: its cells are strings and stay as they are spelled (`007` stays `007`).

A row that does not fit the header is kept as one that cannot be embedded, so that counts add up.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from transforms.sources import csv_records, packed
from transforms.sources.row_files import SEPARATOR, Rows, hashes

_FLAG = "--csv"


@dataclass(frozen=True)
class CsvFile:
    """One CSV; `columns` are those that were asked for, which tell between delimiters.

    Cost: the file is read once; what is held of it in memory is a batch of `csv_records`.
    """

    uri: str
    columns: tuple[str, ...]

    @cached_property
    def _beginning(self) -> tuple[csv_records.Dialect, list[str]]:
        """How the file is written, and its header."""
        with packed.opened(self.uri, _FLAG) as stream:
            dialect = csv_records.read_dialect(stream, self.uri, self.columns)
            return dialect, csv_records.header_of(stream, self.uri, dialect)

    def header(self, wanted: Iterable[str]) -> list[str]:
        """Returns the names of the columns."""
        return self._beginning[1]

    def rows(self) -> Iterator[Rows]:
        """Reads the rows; those that do not fit the header follow their batch."""
        dialect, header = self._beginning
        with packed.opened(self.uri, _FLAG) as stream:
            for batch in csv_records.batches(stream, self.uri, dialect):
                if batch.lines:
                    yield Rows(header, batch.columns, _content_hashes(batch.columns), batch.lines)
                if batch.odd:
                    texts = pa.array([text for _, _, text in batch.odd], pa.string())
                    cells = [texts, *(pa.nulls(len(texts), pa.string()) for _ in header[1:])]
                    problems = [
                        f"WrongNumberOfCells: the row has {count} cells, the header {len(header)}"
                        for _, count, _ in batch.odd
                    ]
                    lines = [line for line, _, _ in batch.odd]
                    yield Rows(header, cells, _content_hashes(cells), lines, pa.array(problems, pa.string()))


def _content_hashes(cells: Iterable[pa.Array]) -> pa.Array:
    whole = pc.binary_join_element_wise(*cells, SEPARATOR, null_handling="replace")
    return hashes(whole.to_pylist())
