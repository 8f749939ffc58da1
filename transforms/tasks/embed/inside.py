"""Pictures that are in a file with others: in a column of parquet, or members of a tar archive.

Of parquet they are read in the order of their rows, a few at a time. Threads ask for them nearly in that order, each
for another one. So one of them reads on until the row is there that it wants, and leaves to the others what it passes.
Of an archive, members that lie near each other are read at once, by the first thread that wants one of them.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import xxhash

from transforms.errors import PixdexError
from transforms.rejects import Failure
from transforms.shards import ready_files
from transforms.storage import tar_members
from transforms.storage.uris import Located, ObjectTooLargeError
from transforms.tasks.embed import fetch

_ROWS_AT_ONCE: Final = 8

_STRETCH_BYTES: Final = 4 << 20
"""Of members of an archive that are read at once."""

_PATIENCE: Final = 10.0
"""Seconds that a thread waits for another that reads for it."""

_GAP_BYTES: Final = 64 << 10
"""Between two of them, which are read, too: less than another request costs."""


@dataclass(frozen=True)
class _Held(Located):
    """A picture that is read already."""

    data: bytes = b""

    def read(self, limit: int = 0) -> bytes:
        return self.data


class PicturesInside:
    """Finds pictures by their URIs, wherever they are.

    Cost: of each row group with a picture that is wanted, the pages of its column up to the last one; held are those
    that are read and not yet asked for, some dozens, beside the page at hand. Of an archive a request for each 4 MiB,
    or for a larger picture, of which a few are held.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        """Takes `pixdex.inside` of every picture that is in a file, by its URI (see `sources.items`)."""
        self._members = _members_of(columns)
        columns = {uri: column for uri, column in columns.items() if uri not in self._members}
        rows: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._places: dict[str, tuple[tuple[str, str], int]] = {}
        for uri, column in columns.items():
            file, _, row = uri.rpartition("#")
            self._places[uri] = (file, column), int(row)
            rows[file, column].add(int(row))
        self._files = {place: _File(*place, wanted) for place, wanted in rows.items()}

    def locate(self, uri: str, limit: int) -> Located | None:
        """Finds a picture, and reads one that is in a file; as `fetch.locate`.

        Raises:
            PixdexError: the file is missing or damaged.
            ObjectTooLargeError: it has more bytes than allowed.
        """
        if (member := self._members.get(uri)) is not None:
            _check_size(member.size, limit)
            return member.located()
        place = self._places.get(uri)
        if place is None:
            return fetch.locate(uri, limit)
        data = self._files[place[0]].take(place[1])
        _check_size(len(data), limit)
        return _Held(uri, None, len(data), data=data)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ObjectTooLargeError(
            f"the picture has {size} bytes, the limit is {limit}: raise --max-file-bytes or leave it out"
        )


@dataclass(frozen=True)
class _Member:
    """A picture in an archive, and the stretch of this in which it is read."""

    uri: str
    start: int
    size: int
    digest: str
    stretch: "_Stretch"

    def located(self) -> Located:
        """Reads it with those near it, if it is not large; one that is has a place, and is read when there is memory.

        Raises:
            PixdexError: it is not there as it was when it was listed, or cannot be read.
        """
        if self.size > _STRETCH_BYTES:
            return _Large(self.uri, None, self.size, member=self)
        return _Held(self.uri, None, self.size, data=self.checked(self.stretch.take(self.start, self.size)))

    def checked(self, data: bytes) -> bytes:
        if xxhash.xxh3_128_hexdigest(data) != self.digest:
            raise PixdexError(
                f"{self.uri} is not what it was when it was listed: put the archive back, then run the same command "
                "again to go on from here; or give the run up with --abandon-plan"
            )
        return data


@dataclass(frozen=True)
class _Large(Located):
    """A picture in an archive that is read by itself."""

    member: _Member | None = None

    def read(self, limit: int = 0) -> bytes:
        member = self.member
        assert member is not None  # it only has a default because fields before it have one
        with _making_sense_of(member.uri):
            stop = member.start + member.size
            return member.checked(ready_files.read_range(member.stretch.archive, member.start, stop))


class _Stretch:
    """Pictures that lie near each other in an archive, each of which is taken once, by whichever thread."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.places: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        self._held: dict[tuple[int, int], bytes] | None = None

    def take(self, start: int, size: int) -> bytes:
        data = None
        # Whoever reads for all may be at it for ever.
        if self._lock.acquire(timeout=_PATIENCE):
            try:
                if self._held is None:
                    self._held = self._read(self.places)
                data = self._held.pop((start, size), None)
            finally:
                self._lock.release()
        return self._read([(start, size)])[start, size] if data is None else data

    def _read(self, places: list[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        first, end = places[0][0], max(start + size for start, size in places)
        with _making_sense_of(self.archive):
            data = fetch.persistently(self.archive, lambda: ready_files.read_range(self.archive, first, end))
        return {(start, size): data[start - first : start - first + size] for start, size in places}


@contextmanager
def _making_sense_of(uri: str) -> Iterator[None]:
    """Turns what befalls an archive into an error of the run: it is none of the picture that is asked for."""
    try:
        yield
    except PixdexError:
        raise
    except Exception as error:  # clients of object stores raise anything
        raise PixdexError(
            f"{uri} cannot be read ({Failure.of('fetch', error)}), and could be when it was listed: put it back, then "
            "run the same command again to go on from here"
        ) from error


def _members_of(columns: Mapping[str, str]) -> dict[str, _Member]:
    """Returns the members of archives by their URIs, those that lie near each other in one stretch."""
    places = [(place, uri) for uri in columns if (place := tar_members.place_of(uri)) is not None]
    members: dict[str, _Member] = {}
    stretch, begun, end = _Stretch(""), 0, 0
    for (archive, start, size), uri in sorted(places):
        if archive != stretch.archive or start + size - begun > _STRETCH_BYTES or start - end > _GAP_BYTES:
            stretch, begun, end = _Stretch(archive), start, start
        stretch.places.append((start, size))
        end = max(end, start + size)
        members[uri] = _Member(uri, start, size, columns[uri].partition(":")[2], stretch)
    return members


class _File:
    """The pictures of one column that are wanted, each of which is taken once."""

    def __init__(self, uri: str, column: str, wanted: set[int]) -> None:
        self._uri, self._column, self._wanted = uri, column, wanted
        self._lock = threading.Lock()
        self._held: dict[int, bytes] = {}
        self._pictures = self._read()

    def take(self, row: int) -> bytes:
        with self._lock:
            while row not in self._held:
                found = next(self._pictures, None)
                if found is None:
                    raise PixdexError(
                        f"{self._uri} has no picture in row {row}, and had one when it was listed: put it back, then "
                        "run the same command again to go on from here"
                    )
                self._held[found[0]] = found[1]
            return self._held.pop(row)

    def _read(self) -> Iterator[tuple[int, bytes]]:
        start = 0
        with ready_files.opened(self._uri) as file:
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                last = max((row for row in self._wanted if start <= row < stop), default=-1)
                if last >= 0:
                    for batch in file.iter_batches(
                        batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=[self._column], use_threads=False
                    ):
                        column = batch.column(0)
                        values = column.flatten()[0] if column.type.num_fields else column
                        for row, value in enumerate(values, start):
                            if row in self._wanted and value.is_valid:
                                yield row, bytes(value.as_buffer())
                        start += len(batch)
                        if start > last:
                            break
                start = stop
