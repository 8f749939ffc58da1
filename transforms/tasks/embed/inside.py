"""Pictures whose bytes are in a column of a parquet file: read in the order of their rows, a few at a time.

Threads ask for them nearly in that order, each for another one. So one of them reads on until the row is there that it
wants, and leaves to the others what it passes.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from transforms.errors import PixdexError
from transforms.shards import ready_files
from transforms.storage.uris import Located, ObjectTooLargeError
from transforms.tasks.embed import fetch

_ROWS_AT_ONCE: Final = 8


@dataclass(frozen=True)
class _Held(Located):
    """A picture that is read already."""

    data: bytes = b""

    def read(self, limit: int = 0) -> bytes:
        return self.data


class PicturesInside:
    """Finds pictures by their URIs, wherever they are.

    Cost: of each row group with a picture that is wanted, the pages of its column up to the last one; held are those
    that are read and not yet asked for, some dozens, beside the page at hand.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        """Takes the column of every picture that is in a file, by its URI, which is that of the file with `#ROW`."""
        rows: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._places: dict[str, tuple[tuple[str, str], int]] = {}
        for uri, column in columns.items():
            file, _, row = uri.rpartition("#")
            self._places[uri] = (file, column), int(row)
            rows[file, column].add(int(row))
        self._files = {place: _File(*place, wanted) for place, wanted in rows.items()}

    def locate(self, uri: str, limit: int) -> Located:
        """Finds a picture, and reads one that is in a file; as `fetch.locate`.

        Raises:
            PixdexError: the file is missing or damaged.
            ObjectTooLargeError: it has more bytes than allowed.
        """
        place = self._places.get(uri)
        if place is None:
            return fetch.locate(uri, limit)
        data = self._files[place[0]].take(place[1])
        if len(data) > limit:
            raise ObjectTooLargeError(
                f"the picture has {len(data)} bytes, the limit is {limit}: raise --max-file-bytes or leave it out"
            )
        return _Held(uri, None, len(data), data)


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
