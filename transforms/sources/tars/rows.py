"""A tar archive as a file of rows: each picture of a sample is one, with what describes the sample in its columns.

A sample without a picture is a row where a text or keywords are asked for; else its members are left out and counted.
"""

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
import xxhash

from transforms.errors import UsageError
from transforms.shards import ready_files
from transforms.sources import blank_texts, left_out
from transforms.sources.json_objects import BadObjectError, ObjectReader
from transforms.sources.left_out import Tally
from transforms.sources.row_files import SEPARATOR, Rows, joined
from transforms.sources.tars.members import FLAG
from transforms.sources.tars.samples import CAPTION, Picture, Sample, samples
from transforms.sources.words import keywords_of
from transforms.storage import tar_members, uris

COLUMNS: Final = 1000
"""Names that the columns of an archive may have in all."""

INSIDE: Final = "tar:"
"""Before the hash of a picture, where `pixdex.inside` is of an archive."""

_BATCH_ROWS: Final = 1024
_BATCH_BYTES: Final = 8 << 20
_HEAD_SAMPLES: Final = 100
_READ_BYTES: Final = 4 << 20
"""Asked of an object store at once, beside what was asked for."""

_READER: Final = ObjectReader("sample")


@dataclass(frozen=True)
class _Row:
    """A row that is waiting for its batch."""

    name: str
    cells: dict[str, str | None]
    picture: Picture | None
    keywords: list[str] | str | None
    problem: str | None
    size: int


@dataclass
class _Batch:
    """Rows that wait until they are many, or large."""

    rows: list[_Row] = field(default_factory=list)
    size: int = 0

    def add(self, row: _Row) -> bool:
        """Adds a row; True: it is time to take them."""
        self.rows.append(row)
        self.size += row.size
        return len(self.rows) == _BATCH_ROWS or self.size >= _BATCH_BYTES

    def take(self) -> list[_Row]:
        taken, self.rows, self.size = self.rows, [], 0
        return taken


@dataclass(frozen=True)
class TarRows:
    """One archive.

    Attributes:
        uri: of the file.
        texts: columns that must be texts or numbers, where they are there.
        key: the column of the primary key, if any.
        keywords: the column of keywords: a field may be a list of strings, else it is split.
        separator: what it is split on.
        tally: counts what is left out.

    Cost: the archive is read once, from its beginning to its end; held is a batch of about 8 MiB, and one sample.
    """

    uri: str
    texts: tuple[str, ...] = ()
    key: str | None = None
    keywords: str | None = None
    separator: str = ","
    tally: Tally = field(default_factory=Tally)

    def header(self, wanted: Iterable[str]) -> list[str]:
        """Returns the columns of the first samples; the rest is read only where one of `wanted` is not among them."""
        names: dict[str, None] = {}
        missing = set(wanted)
        with self._opened() as (stream, size):
            found = samples(stream, size, self.uri, self._named, Tally(), only_texts=True)
            for number, sample in enumerate(found):
                self._add(names, sample.columns())
                missing -= names.keys()
                if number >= _HEAD_SAMPLES and not missing:
                    break
        return list(names)

    def rows(self) -> Iterator[Rows]:
        """Reads the samples; those that cannot be embedded follow their batch."""
        names: dict[str, None] = {}
        sound, bad = _Batch(), _Batch()
        with self._opened() as (stream, size):
            for sample in samples(stream, size, self.uri, self._named, self.tally):
                for row in self._rows_of(sample, names):
                    batch = sound if row.problem is None else bad
                    if batch.add(row):
                        yield self._batch(batch.take(), names)
        yield from (self._batch(batch.take(), names) for batch in (sound, bad) if batch.rows)

    @property
    def _named(self) -> tuple[str, ...]:
        return tuple(filter(None, (*self.texts, self.key, self.keywords)))

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], int]]:
        path = ready_files.local_path(self.uri)
        if path is not None:
            if Path(path).is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder", path)
            size, _ = ready_files.stat(self.uri)
            with open(path, "rb") as stream:  # noqa: PTH123 - the path may hold undecodable bytes
                yield stream, size
            return
        filesystem, name = uris.filesystem_of(self.uri)
        filesystem.invalidate_cache()
        known = filesystem.info(name).get("size")
        is_web = self.uri.startswith(("http://", "https://"))
        if known is None or (is_web and len(filesystem.cat_file(name, start=0, end=1)) > 1):
            raise UsageError(
                f"{FLAG} {self.uri}: its server answers no ranges of bytes, by which pictures are read alone: copy it "
                "to a disk or a bucket"
            )
        with filesystem.open(name, "rb", block_size=_READ_BYTES) as stream:
            yield stream, known

    def _rows_of(self, sample: Sample, names: dict[str, None]) -> Iterator[_Row]:
        columns = sample.columns()
        try:
            _READER.check_texts(columns, tuple(filter(None, (*self.texts, self.key))), self.keywords)
        except BadObjectError as error:
            sample.set_problem(str(error))
        pictures: Sequence[Picture | None] = sample.pictures
        if not pictures:
            if not (self.texts or self.keywords):
                for name in sample.names.values():
                    self.tally.left_out[left_out.kind_of_file(name)] += 1
                return
            pictures = [None] if sample.names else []  # what has no names is counted already
        self._add(names, columns)
        cells = {name: cell for name, (_, cell) in columns.items()}
        words, spelled = columns.get(self.keywords or "", (None, None))
        keywords = words if isinstance(words, list) else spelled
        for picture in pictures:
            problem = sample.problem or (picture.problem if picture else None)
            name = self._name(sample, picture, problem, cells)
            yield _Row(name, cells, picture, keywords, problem, sample.text_bytes + len(name) + 100)

    def _name(self, sample: Sample, picture: Picture | None, problem: str | None, cells: dict[str, str | None]) -> str:
        primary = (cells.get(self.key) or "").strip() if self.key and problem is None else ""
        if primary and picture is not None and len(sample.pictures) > 1:
            return f"{primary}#{picture.ending}"
        return primary or (min(sample.names.values()) if picture is None else picture.name)

    def _batch(self, batch: Sequence[_Row], names: dict[str, None]) -> Rows:
        is_sound = batch[0].problem is None
        digests = [row.picture.digest if row.picture else None for row in batch]
        places = [self._place(row.picture) if row.picture and row.picture.digest else None for row in batch]
        # Where a picture lies is part of its row: what moves keeps its vectors, and gets another URI.
        content = [
            xxhash.xxh3_128_hexdigest(SEPARATOR.join((joined(row.cells), digest or "", place or "")).encode())
            for row, digest, place in zip(batch, digests, places, strict=True)
        ]
        words = [row.keywords for row in batch] if self.keywords and is_sound else None
        return Rows(
            list(names),
            [pa.array([row.cells.get(name) for row in batch], pa.string()) for name in names],
            pa.array(content, pa.string()),
            lines=None,
            problems=None if is_sound else pa.array([row.problem for row in batch], pa.string()),
            keywords=None if words is None else keywords_of(words, self.separator),
            inside=pa.array([digest and INSIDE + digest for digest in digests], pa.string()),
            pictures=pa.array(digests, pa.string()),
            uris=pa.array(places, pa.string()),
            own_names=pa.array([row.name for row in batch], pa.string()),
            captions=blank_texts.as_null(pa.array([row.cells.get(CAPTION) for row in batch], pa.string())),
        )

    def _place(self, picture: Picture) -> str:
        return tar_members.uri_of(self.uri, picture.start, picture.size)

    def _add(self, names: dict[str, None], more: Iterable[str]) -> None:
        names.update(dict.fromkeys(more))
        if len(names) > COLUMNS:
            raise UsageError(
                f"{FLAG} {self.uri} has more than {COLUMNS} different fields and endings of texts: each would be a "
                "column; nest those that are data, so that their JSON is one field"
            )
