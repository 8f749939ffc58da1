"""What a file of rows is, whatever its format: the columns that it has, and its rows, some at a time.

`csv_file`, `jsonl_file`, `parquet_file` and `tars.rows` each read one format; `table_rows` makes items of what they
read. A new format is a module with a `RowFile`, its place in `table_rows.opened`, and a line in the suite of
`tests/transforms/sources/test_row_sources.py`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import xxhash

SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Rows:
    """Some rows that follow one another.

    Attributes:
        names: of the columns, as the file spells them; those of later rows begin with the same ones.
        columns: the cells, as strings, one array a column; null: there is none.
        content: of every row a hash of all that it holds, in hexadecimal.
        lines: the line on which each begins, or its number in the file, counted from 1; None: it has a name.
        problems: why none of these can be embedded, `Type: message` of each; None: nothing is known against them.
        keywords: those of each row (`list<string>`), where the file has them as lists; None: they are to be split.
        inside: of each row where its picture lies in the file (see `sources.items`), null: it has none; None: pictures
            are not in the file.
        pictures: of each of these a hash of its bytes, in hexadecimal.
        uris: of these, where they are not the file with `#` and the number of the row, from 0.
        own_names: by which a row without a primary key is named, where that is not its content.
        captions: of pictures whose rows have no text to embed.
    """

    names: Sequence[str]
    columns: Sequence[pa.Array]
    content: pa.Array
    lines: Sequence[int] | None
    problems: pa.Array | None = None
    keywords: pa.Array | None = None
    inside: pa.Array | None = None
    pictures: pa.Array | None = None
    uris: pa.Array | None = None
    own_names: pa.Array | None = None
    captions: pa.Array | None = None


class RowFile(Protocol):
    """A file of rows that is there and can be read."""

    def header(self, wanted: Iterable[str]) -> list[str]:
        """Returns the names of its columns: all that the file says at its beginning, and `wanted` if there are any.

        Raises:
            UsageError: it is empty, or no file of its format.
            OSError: it cannot be read.
        """

    def rows(self) -> Iterator[Rows]:
        """Reads its rows in order, but that those with problems may follow the others of a batch.

        Raises:
            UsageError: it is damaged, cut short, or no file of its format.
            OSError: it cannot be read.
        """


def joined(cells: Mapping[str, str | None]) -> str:
    """Returns the cells of a row in one string, in the order of their names: a row written in another is the same."""
    return SEPARATOR.join(f"{name}{SEPARATOR}{cell}" for name, cell in sorted(cells.items()) if cell is not None)


def hashes(texts: Iterable[str]) -> pa.Array:
    """Returns a 128-bit hash, in hexadecimal, of every text."""
    return pa.array([xxhash.xxh3_128_hexdigest(text.encode()) for text in texts], pa.string())
