"""A root on an object store, s3:// or gs://: commits are creates with a condition, which the store itself honours."""

import datetime
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from transforms.storage import uris
from transforms.storage.backend import StoredFile

_CREATE_ATTEMPTS = 3


class ObjectStore:
    """The objects below a prefix (see `Backend`): `If-None-Match` on S3, generation 0 on Cloud Storage.

    Attributes:
        filesystem: the fsspec filesystem that reaches them, which is untyped.
    """

    local = None

    def __init__(self, url: str) -> None:
        """Opens the filesystem of an absolute URL; nothing is asked of the network yet.

        Raises:
            ImportError: it needs a package that is not installed.
        """
        # Other workers write here too: a kept listing would hide from `open` what they made since.
        self.filesystem, base = uris.filesystem_of(url, keep_listings=False)
        self._base = base.rstrip("/")

    def full(self, path: str) -> str:
        """Returns what the filesystem calls a path of the root."""
        return f"{self._base}/{path}"

    def exists(self, path: str) -> bool:
        """Tells whether an object is there."""
        return bool(self._fresh().exists(self.full(path)))

    def size(self, path: str) -> int:
        """Returns the bytes of an object."""
        return int(self._fresh().size(self.full(path)))

    def changed(self, path: str) -> float:
        """Returns when an object was written."""
        return _time_of(self._fresh().info(self.full(path)))

    def names(self, folder: str) -> list[str]:
        """Returns the names of what lies right below a prefix."""
        entries = self._fresh().ls(self.full(folder), detail=False)
        return [entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries]

    def newest(self, folder: str) -> float:
        """Returns when the newest object right below a prefix was written."""
        entries = self._fresh().ls(self.full(folder), detail=True)
        return max([0.0, *(_time_of(entry) for entry in entries)])

    def walk(self, folder: str) -> Iterator[StoredFile]:
        """Lists all objects below a prefix."""
        prefix = self.full("")
        try:
            objects = self._fresh().find(self.full(folder), detail=True)
        except FileNotFoundError:
            return
        for name, info in objects.items():
            yield StoredFile(str(name).removeprefix(prefix), int(info["size"]), _time_of(info))

    def read(self, path: str) -> bytes:
        """Returns the content of an object."""
        return cast(bytes, self.filesystem.cat_file(self.full(path)))

    def open(self, path: str) -> BufferedIOBase:
        """Opens an object for reading."""
        return cast(BufferedIOBase, self.filesystem.open(self.full(path), "rb"))

    def open_ranges(self, path: str) -> BufferedIOBase:
        """Opens an object for reading, without a cache."""
        return cast(BufferedIOBase, self.filesystem.open(self.full(path), "rb", cache_type="none"))

    def create(self, path: str, data: bytes) -> bool:
        """Makes an object on the condition that there is none of its name.

        Not every version of s3fs calls a refused condition FileExistsError, so that an error is one where there is an
        object. Where there is none it may have been removed since: then it is tried again.
        """
        for attempts_left in reversed(range(_CREATE_ATTEMPTS)):
            try:
                self.filesystem.pipe_file(self.full(path), data, mode="create")
                break
            except OSError:
                if self.exists(path):
                    return False
                if not attempts_left:
                    raise
        return True

    def overwrite(self, path: str, data: bytes) -> None:
        """Makes an object, or one in its place."""
        self.filesystem.pipe_file(self.full(path), data)

    def place(self, file: Path, path: str) -> None:
        """Copies a file to an object."""
        self.filesystem.put_file(str(file), self.full(path))

    def remove(self, path: str) -> None:
        """Removes an object."""
        try:
            self.filesystem.rm_file(self.full(path))
        finally:
            self.filesystem.invalidate_cache()

    def remove_folder(self, folder: str) -> None:
        """Removes all objects below a prefix."""
        self.filesystem.rm(self.full(folder), recursive=True)

    def remove_empty_folders(self, folders: Iterable[str]) -> None:
        """Does nothing: there are no folders."""

    def _fresh(self) -> Any:  # fsspec is untyped
        self.filesystem.invalidate_cache()
        return self.filesystem


def _time_of(info: dict[str, Any]) -> float:
    """When a file was written, as its filesystem says it, in seconds since the epoch."""
    time = info.get("mtime", info.get("LastModified", info.get("updated", info.get("created", 0))))
    if isinstance(time, str):
        time = datetime.datetime.fromisoformat(time.replace("Z", "+00:00"))
    if isinstance(time, datetime.datetime):
        return time.replace(tzinfo=time.tzinfo or datetime.UTC).timestamp()
    return float(time or 0)
