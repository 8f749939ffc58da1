"""Where an export goes: a folder whose files appear whole, one by one, and which says in itself what it is of.

A hidden folder in it holds a record of what was asked for, and what is being written. So the same command goes on where
it was stopped, and a folder with anything else in it is left alone.
"""

import contextlib
import fcntl
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from transforms.errors import PixdexError, UsageError
from transforms.record_json import decode, encode
from transforms.records import FORMAT_VERSION
from transforms.storage import atomic

FOLDER: Final = ".pixdex-export"
"""Hidden, since readers of whole folders take every file that is not."""

_ASKED, _DONE, _ASIDE, _LOCK = "export.json", "done.json", "aside", "lock"

T = TypeVar("T")
Tell = Callable[[int], None]
"""Is told of rows that are done."""


@dataclass(frozen=True)
class Export:
    """What an export is of.

    Attributes:
        layout: its name.
        generation, seal: number and checksum of the generation.
        with_hidden: whether hidden items are in it.
        rows_per_file: rows of a file, at most.
    """

    layout: str
    generation: int
    seal: str
    with_hidden: bool
    rows_per_file: int
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Done:
    """What a finished export holds."""

    rows: int
    files: int
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class ExportFile:
    """A file of an export, which follows from the generation and what was asked for alone.

    Attributes:
        name: its path in the folder.
        rows: that it takes to write, for progress.
        write: writes it to a path, and tells of rows as it goes.
    """

    name: str
    rows: int
    write: Callable[[Path, Tell], None]


def folder_of(place: str) -> Path:
    """Returns the folder that a command names.

    Raises:
        UsageError: it is on no disk of this machine, is a file or a link to nothing, or no text.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in place):  # control characters, undecodable bytes
        raise UsageError(f"{place!r} has characters that no text has: name another folder")
    protocol, separator, rest = place.partition("://")
    if separator and protocol not in ("file", "local"):
        raise UsageError(f"{place} is no folder of this machine: export to one, and copy it there")
    try:
        folder = Path(rest if separator else place).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{place}: there is no such user: write ./~… for a folder's name") from error
    with _written(folder):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: name a new or empty folder")
        if folder.is_symlink() and not folder.exists():
            raise UsageError(f"{folder} is a link to what is not there: name a new or empty folder")
    return folder


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Says of a folder, in one line, that it is none to write to."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror or error}): name another folder") from error


@dataclass(frozen=True)
class Destination:
    """A folder that holds an export, or is to."""

    folder: Path

    def asked(self) -> Export | None:
        """Returns what the export in the folder is of; None: the folder is new or empty.

        Raises:
            UsageError: it holds something else, or cannot be read.
        """
        found = self._read(_ASKED, Export)
        with _written(self.folder):
            if found is None and self.folder.exists() and any(one.name != FOLDER for one in self.folder.iterdir()):
                raise UsageError(f"{self.folder} holds files that are not of an export: name a new or empty folder")
        return found

    def done(self) -> Done | None:
        """Returns what the export holds, if it is finished.

        Raises:
            UsageError: that cannot be read.
        """
        return self._read(_DONE, Done)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps others from writing to the folder, which is made where it is not there.

        Raises:
            UsageError: it cannot be written.
            PixdexError: another process writes to it.
        """
        with _written(self.folder):
            self._hidden(_ASIDE).mkdir(parents=True, exist_ok=True)
            lock = self._hidden(_LOCK).open("wb")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise PixdexError(f"another process exports to {self.folder}: wait for it, or name another") from error
            except OSError:
                pass  # a filesystem without locks
            yield

    def begin(self, export: Export) -> None:
        """Writes down what the export is of, before anything else."""
        self._put(_ASKED, encode(export))

    def make(self, file: ExportFile, tell: Tell) -> None:
        """Writes a file, unless it is there: under its name it is whole."""
        target = self.folder / file.name
        if target.exists():
            tell(file.rows)
            return
        told = 0

        def count(rows: int) -> None:
            nonlocal told
            told += rows
            tell(rows)

        aside = self._hidden(_ASIDE) / file.name.replace("/", "-")
        file.write(aside, count)
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.sync(aside)
        atomic.replace(aside, target)
        atomic.sync(target.parent)
        tell(file.rows - told)

    def finish(self, done: Done) -> None:
        """Writes down that all files are there, and takes away what was left aside."""
        for left in self._hidden(_ASIDE).iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        self._put(_DONE, encode(done))

    def _read(self, name: str, kind: type[T]) -> T | None:
        with _written(self.folder):
            try:
                data = self._hidden(name).read_bytes()
            except FileNotFoundError:
                return None
        try:
            return decode(data, kind, str(self._hidden(name)))
        except PixdexError as error:
            why = str(error).removesuffix(": restore it, or use another root")
            raise UsageError(f"{why}: name a new or empty folder, or remove this one") from error

    def _put(self, name: str, data: bytes) -> None:
        aside = self._hidden(_ASIDE) / name
        with aside.open("wb") as stream:
            stream.write(data)
            atomic.flush(stream)
        atomic.replace(aside, self._hidden(name))
        atomic.sync(self._hidden(name).parent)

    def _hidden(self, name: str) -> Path:
        return self.folder / FOLDER / name


def write_bytes(file: Path, data: bytes) -> None:
    """Writes a small file."""
    with file.open("wb") as stream:
        stream.write(data)
        os.fsync(stream.fileno())
