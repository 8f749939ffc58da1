"""What a root asks of the place where it lies: a folder, an object store, or memory, each a module beside this one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class StoredFile:
    """A file of a root: its path, its size, and when it was written, in seconds since the epoch."""

    path: str
    bytes: int
    changed: float


class Backend(Protocol):
    """The files below one root, by paths relative to it.

    All that asks for a file that is not there raises FileNotFoundError; `names` and `newest` of what is no folder may
    raise NotADirectoryError. What others wrote is seen at once: no listing is kept.
    """

    @property
    def local(self) -> Path | None:
        """The root as a folder of this machine, or None when it is not one."""

    def full(self, path: str) -> str:
        """What the place itself calls a path of the root."""

    def exists(self, path: str) -> bool:
        """Whether a file is there."""

    def size(self, path: str) -> int:
        """The bytes of a file."""

    def changed(self, path: str) -> float:
        """When a file was written, in seconds since the epoch."""

    def names(self, folder: str) -> list[str]:
        """The names of all that lies in a folder, hidden ones too, in any order."""

    def newest(self, folder: str) -> float:
        """When what was written last into a folder was written; 0 when nothing was."""

    def walk(self, folder: str) -> Iterator[StoredFile]:
        """All files below a folder, hidden ones too, by their names; none when there is no such folder."""

    def read(self, path: str) -> bytes:
        """The content of a file."""

    def open(self, path: str) -> BufferedIOBase:
        """A file opened for reading, seekable."""

    def open_ranges(self, path: str) -> BufferedIOBase:
        """The same for reading large ranges: nothing is read ahead or kept."""

    def create(self, path: str, data: bytes) -> bool:
        """Makes a file unless one of that name is there, and tells which; it is whole when it becomes visible."""

    def overwrite(self, path: str, data: bytes) -> None:
        """Makes a file, or one in its place; it is never seen half written."""

    def place(self, file: Path, path: str) -> None:
        """Puts a finished local file under a path; the local file may be moved away."""

    def remove(self, path: str) -> None:
        """Removes a file."""

    def remove_folder(self, folder: str) -> None:
        """Removes a folder with all that is in it."""

    def remove_empty_folders(self, folders: Iterable[str]) -> None:
        """Removes what is empty of these folders and of all below them."""
