"""A CSV as metadata beside ready embeddings: how many rows it has, and a copy as parquet, which is read by row.

A CSV is read from its start. So whoever asks for rows of it makes a parquet file of all of it, once on each machine, in
`cache_folder()`; an embedding's row is then read as from any other metadata.
"""

import contextlib
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import PixdexError, UsageError
from transforms.shards import ready_files
from transforms.sources import packed
from transforms.sources.csv_file import CsvFile
from transforms.storage import atomic
from transforms.storage.cache_folder import cache_folder

ENDINGS: Final = (".csv", *(f".csv{ending}" for ending in packed.ENDINGS))

_MAKING: Final = ".making-"
_DEAD_SECONDS: Final = 24 * 3600
"""A copy that was begun so long ago is no longer being made."""

_ROWS_PER_GROUP: Final = 4096


def is_csv(name: str) -> bool:
    """Tells whether a file, or what a pattern matches, is a CSV by its name.

    >>> is_csv("s3://b/rows.CSV.gz"), is_csv("file:///m/*.parquet")
    (True, False)
    """
    return name.lower().endswith(ENDINGS)


def read_head(uri: str) -> tuple[int, list[str]]:
    """Returns how many rows a CSV has, and the names of its columns. Cost: it is read once, some 16 MB at a time.

    Raises:
        UsageError: it is no CSV, a row has not as many cells as the header, or two columns have one name.
        OSError: it cannot be read.
    """
    with _named(uri):
        file = CsvFile(uri, ())
        return sum(len(batch) for batch in _batches(file)), file.header(())


def parquet_of(uri: str, version: str) -> Path:
    """Returns a copy of a CSV in this version as parquet; makes it when it is not there yet.

    All columns are strings. The file gets its name when it is whole, so that two processes may make it at once, and the
    copies of other versions go then. Cost: one read of the CSV, some 16 MB at a time, and about a third of its bytes on
    disk.

    Raises:
        PixdexError: the cache folder cannot be written, or the CSV is no such file any more.
    """
    folder = cache_folder() / "metadata"
    name = _digits(uri)
    file = folder / f"{name}-{_digits(version)}.parquet"
    if file.is_file():
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=_MAKING, delete=False) as out:
            making = Path(out.name)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        with _named(uri):
            _write(CsvFile(uri, ()), making)
        if ready_files.stat(uri)[1] != version:
            raise PixdexError(f"{uri} was written while it was read: search again")
        atomic.replace(making, file)
    except UsageError as error:
        raise PixdexError(str(error)) from error
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        making.unlink(missing_ok=True)
    for other in folder.glob(f"{name}-*.parquet"):
        if other != file:
            other.unlink(missing_ok=True)
    return file


def _write(csv: CsvFile, file: Path) -> None:
    schema = pa.schema([(name, pa.string()) for name in csv.header(())])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(csv):
            writer.write_table(batch.cast(schema), row_group_size=_ROWS_PER_GROUP)


def _batches(csv: CsvFile) -> Iterator[pa.Table]:
    header = csv.header(())
    if double := [name for name, count in Counter(header).items() if count > 1]:
        raise UsageError(f"--metadata {csv.uri} has several columns {double[0]}: give each a name of its own")
    for rows in csv.rows():
        if rows.problems is not None:
            assert rows.lines is not None  # of a CSV they are known
            why = rows.problems[0].as_py().partition(": ")[2]
            raise UsageError(
                f"--metadata {csv.uri}, line {rows.lines[0]}: {why}; mend it, each row is that of a vector"
            )
        yield pa.table(dict(zip(rows.names, rows.columns, strict=True)))


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Says of a CSV that cannot be read by which flag it was named."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error).replace("--csv", "--metadata", 1)) from error
    except (ImportError, ValueError) as error:
        raise UsageError(f"--metadata {uri}: {error}") from error


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _sweep(folder: Path) -> None:
    """Removes what processes left that ended while they made a copy."""
    for other in folder.glob(f"{_MAKING}*"):
        with contextlib.suppress(OSError):  # another process removes it, too
            if other.stat().st_mtime < time.time() - _DEAD_SECONDS:
                other.unlink()


def _unwritable(folder: Path, error: OSError) -> PixdexError:
    why = error.strerror or error
    return PixdexError(f"{folder} cannot take the copy of a CSV ({why}): set XDG_CACHE_HOME to a folder with room")
