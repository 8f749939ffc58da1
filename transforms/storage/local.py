"""A root that is a folder of this machine, or one that many machines mount: commits are hard links."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from transforms.errors import PixdexError
from transforms.storage import atomic, inside, layout
from transforms.storage.backend import StoredFile
from transforms.storage.scratch import temporary_folder


class LocalFolder:
    """The files below a folder (see `Backend`); whatever would lead out of it is refused (see `inside`)."""

    def __init__(self, root: Path) -> None:
        """Takes the folder, which need not be there yet."""
        self._root = root

    @property
    def local(self) -> Path:
        """The folder."""
        return self._root

    @property
    def _scratch(self) -> Path:
        return inside.for_listing(self._root, layout.SCRATCH)

    def full(self, path: str) -> str:
        """Returns the path of a file on this machine."""
        return f"{str(self._root).rstrip('/')}/{path}"

    def exists(self, path: str) -> bool:
        """Tells whether a file is there."""
        return os.path.exists(inside.for_reading(self._root, path))  # noqa: PTH110 - what may not be looked at is not there

    def size(self, path: str) -> int:
        """Returns the bytes of a file."""
        return inside.for_reading(self._root, path).stat().st_size

    def changed(self, path: str) -> float:
        """Returns when a file was written."""
        return inside.for_reading(self._root, path).stat().st_mtime

    def names(self, folder: str) -> list[str]:
        """Returns the names of what lies in a folder."""
        return os.listdir(inside.for_reading(self._root, folder))  # noqa: PTH208 - names are asked for, not paths

    def newest(self, folder: str) -> float:
        """Returns when the newest file of a folder was written."""
        newest = 0.0
        with os.scandir(inside.for_reading(self._root, folder)) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
        return newest

    def walk(self, folder: str) -> Iterator[StoredFile]:
        """Lists all files below a folder; a link is a file, wherever it leads, and what cannot be read is empty."""
        prefix = self.full("")
        inside.for_listing(self._root, folder)
        entries = sorted(_entries(self.full(folder).rstrip("/")), key=lambda entry: entry.path)
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                changed = entry.stat(follow_symlinks=False).st_mtime
                yield StoredFile(entry.path.removeprefix(prefix), _size_of(entry), changed)

    def read(self, path: str) -> bytes:
        """Returns the content of a file."""
        return inside.for_reading(self._root, path).read_bytes()

    def open(self, path: str) -> BufferedIOBase:
        """Opens a file for reading."""
        return inside.for_reading(self._root, path).open("rb")

    def open_ranges(self, path: str) -> BufferedIOBase:
        """Opens a file for reading, without a buffer."""
        return cast(BufferedIOBase, inside.for_reading(self._root, path).open("rb", buffering=0))

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file aside and links it to its name, which fails where there is one."""
        target = inside.for_naming(self._root, path)
        with temporary_folder(self._scratch) as scratch:
            new = scratch / "new"
            with new.open("xb") as stream:
                stream.write(data)
                atomic.flush(stream)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                atomic.link(new, target)
            except FileExistsError:
                return False
            atomic.sync(target.parent)
        return True

    def overwrite(self, path: str, data: bytes) -> None:
        """Writes a file aside and moves it to its name; a power cut may undo that."""
        target = inside.for_naming(self._root, path)
        with temporary_folder(self._scratch) as scratch:
            new = scratch / "new"
            with new.open("xb") as stream:
                stream.write(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(new, target)

    def place(self, file: Path, path: str) -> None:
        """Moves a file to its name.

        Raises:
            PixdexError: it is on another filesystem, from which it could not be moved at once.
        """
        target = inside.for_naming(self._root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.stat().st_dev != target.parent.stat().st_dev:
            raise PixdexError(f"{file} is not on the filesystem of {target.parent}: write it in Store.scratch()")
        atomic.sync(file)
        atomic.replace(file, target)
        atomic.sync(target.parent)

    def remove(self, path: str) -> None:
        """Removes a file."""
        inside.for_naming(self._root, path).unlink()

    def remove_folder(self, folder: str) -> None:
        """Removes a folder with all that is in it."""
        shutil.rmtree(inside.for_listing(self._root, folder))

    def remove_empty_folders(self, folders: Iterable[str]) -> None:
        """Removes what is empty of these folders and of all below them."""
        for folder in folders:
            for path, _, _ in os.walk(inside.for_listing(self._root, folder), topdown=False):
                with contextlib.suppress(OSError):  # it is not empty, or someone else removes it
                    Path(path).rmdir()


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """All below a folder that is no folder itself."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)
            else:
                yield entry


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        if entry.is_symlink():
            return 0  # it leads nowhere
        raise
