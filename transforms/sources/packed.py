"""Files that are compressed with gzip or zstd, read as what they hold; told by their first bytes and not by a name.

A stream that is damaged or cut short is refused when its end should come: nothing of it is lost in silence. What it
unpacks to is streamed, so that a small file that unpacks to terabytes takes no memory.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, cast

import pyarrow as pa
from fsspec.spec import AbstractBufferedFile

from transforms.errors import UsageError
from transforms.storage import uris

ENDINGS: Final = (".gz", ".zst")
"""What may stand behind the ending of a file's name."""

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPED: Final = b"\x2a\x4d\x18"
"""Behind one of 0x50 to 0x5F: a frame of zstd that holds no data, as pzstd writes it first."""


def without_ending(name: str) -> str:
    """Returns a name without the ending of its compression.

    >>> without_ending("rows.csv.gz"), without_ending("rows.CSV")
    ('rows.csv', 'rows.CSV')
    """
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), name)


def unpacked(stream: IO[bytes], flag: str, file: str) -> IO[bytes]:
    """Returns a stream of what a stream holds, at its start, or of itself if it is not compressed.

    Args:
        stream: open, at its start, and can go back there. Whoever opened it closes it.
        flag: what names the file to a person, such as `--csv`.
        file: its name.

    Cost: a buffer of Arrow's, about 1 MiB, and the window of the compression, at most 128 MiB.

    Raises:
        UsageError: when it is read: it is damaged, or cut short.
    """
    head = stream.read(4)
    stream.seek(0)
    if head.startswith(_GZIP):
        return io.BufferedReader(_Unpacked(stream, "gzip", f"{flag} {file}"))
    if head == _ZSTD or (head[1:] == _SKIPPED and head[0] & 0xF0 == 0x50):
        return io.BufferedReader(_Unpacked(stream, "zstd", f"{flag} {file}"))
    if isinstance(stream, AbstractBufferedFile):  # of an object store, whose `readline` knows no limit
        return io.BufferedReader(cast(io.RawIOBase, stream))
    return stream


@contextmanager
def opened(uri: str, flag: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading what it holds.

    Raises:
        UsageError: as `unpacked`.
        OSError: it cannot be opened.
        ImportError, ValueError: its protocol is unknown, or needs a package that is not there.
    """
    filesystem, path = uris.filesystem_of(uri)
    with filesystem.open(path, "rb") as stream:
        yield unpacked(stream, flag, uri)


class _Kept:
    """A stream that Arrow does not close, which it does with whatever it reads."""

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self.read = stream.read

    def close(self) -> None:
        pass


class _Unpacked(io.RawIOBase):
    """Unpacks a stream, gzip of several members and zstd of several frames, too; it goes nowhere but to its start."""

    def __init__(self, stream: IO[bytes], codec: str, name: str) -> None:
        self._stream, self._codec, self._name = stream, codec, name
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation(f"{self._name} is read from its start")
        self._stream.seek(0)
        self._inner: Any = pa.CompressedInputStream(pa.PythonFile(_Kept(self._stream), mode="r"), self._codec)
        self._position = 0
        return 0

    def readinto(self, buffer: Any) -> int:
        try:
            piece: bytes = self._inner.read(len(buffer))
        except OSError as error:
            if error.errno is not None:  # not of the codec, but of the disk or the network
                raise
            raise UsageError(
                f"{self._name} is damaged or cut short: it is compressed with {self._codec}, which says "
                f"{str(error)[:80]!r}: copy or compress it again"
            ) from error
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)
