"""A root: any fsspec URL, with the two operations that make every commit safe.

*Upload* puts a finished local file under a name that contains its hash. *Create* makes a small file only if no file of
that name is there: the first one wins, and whoever comes second adopts what is there. A retried, doubled or zombie
worker can therefore do no harm. Beside them only the merge writes below a root: in place, into a hidden file that gets
its name when it is whole (`transforms.tasks.merge.file`).
"""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Any, TypeVar

from transforms.errors import PixdexError, UsageError
from transforms.record_json import decode, encode
from transforms.records import FileReference
from transforms.storage import inside, layout, scratch, uris
from transforms.storage.backend import Backend, StoredFile
from transforms.storage.local import LocalFolder
from transforms.storage.memory import Memory
from transforms.storage.objects import ObjectStore

T = TypeVar("T")

CREATE_ONLY_PROTOCOLS = ("file", "memory", "s3", "gs")
"""Where a conditional create exists and is used: `link`, a lock, `If-None-Match`, generation 0."""

_PROTOCOL_ALIASES = {"local": "file", "s3a": "s3", "gcs": "gs"}
_EXTRAS = {"s3": "s3", "gs": "gcp"}
_HASH_CHUNK = 1 << 20


@dataclass(frozen=True)
class Store:
    """The files of one root, wherever it lies: one backend a place, opened at the first use, and left behind when a
    store travels to another process.

    Attributes:
        url: absolute fsspec URL of the root, without a slash at its end (`Store.at` makes it so).
    """

    url: str

    @classmethod
    def at(cls, location: str) -> "Store":
        """Opens the root at a path or URL; a plain path is made absolute.

        Raises:
            UsageError: the protocol is unknown, needs an extra, or has no create-only write; or a path cannot be made
                absolute.
        """
        protocol, separator, rest = location.partition("://")
        protocol = _PROTOCOL_ALIASES.get(protocol, protocol) if separator else "file"
        if protocol == "file":
            try:
                path = Path(rest if separator else location).expanduser()
                os.fsencode(path).decode()
                return cls("file://" + os.path.abspath(path))  # noqa: PTH100 - follows no links
            except UnicodeDecodeError as error:
                raise UsageError(
                    f"--root {location!r}: the path is no UTF-8, which tables cannot name: rename the folder"
                ) from error
            except RuntimeError as error:
                raise UsageError(f"--root {location}: there is no such user: write ./~… for a folder's name") from error
            except FileNotFoundError as error:
                raise UsageError(
                    f"--root {location} is relative to a working directory that is gone: change to another, or give "
                    "an absolute path"
                ) from error
        if protocol not in CREATE_ONLY_PROTOCOLS:
            raise UsageError(
                f"--root {location}: no create-only write is known for {protocol}://; "
                f"use a folder, or one of {', '.join(p + '://' for p in CREATE_ONLY_PROTOCOLS)}"
            )
        store = cls(f"{protocol}://{rest.rstrip('/')}")
        try:
            store.backend  # noqa: B018 - the import behind it is what can fail
        except ValueError as error:
            raise UsageError(f"--root {location}: {error}") from error
        except ImportError as error:
            raise UsageError(f"--root {location} needs: pip install 'pixdex[{_EXTRAS[protocol]}]'") from error
        return store

    @cached_property
    def backend(self) -> Backend:
        """The place where the root lies."""
        protocol, _, path = self.url.partition("://")
        if protocol == "file":
            return LocalFolder(Path(path))
        return Memory(self.url) if protocol == "memory" else ObjectStore(self.url)

    def __getstate__(self) -> dict[str, str]:
        """Returns what travels to another process."""
        return {"url": self.url}

    @property
    def filesystem(self) -> Any:  # fsspec is untyped
        """The fsspec filesystem of a root that is no folder, for what a store has no method for.

        Raises:
            PixdexError: the root is a folder.
        """
        if not isinstance(self.backend, ObjectStore):
            raise PixdexError(f"{self.url} is a folder: it is reached by its path")
        return self.backend.filesystem

    @property
    def local(self) -> Path | None:
        """The root as a folder of this machine, or None when it is not one."""
        return self.backend.local

    def full(self, path: str) -> str:
        """Returns what the place of the root calls a path."""
        return self.backend.full(path)

    def local_path(self, path: str) -> Path:
        """Returns a file of this root as a path of this machine.

        Raises:
            PixdexError: the root is on an object store.
            UsageError: the path leads out of the root, by a link or by its names.
        """
        if self.local is None:
            raise PixdexError(f"{self.url}/{path} is not on a local filesystem: copy the root to a folder first")
        return inside.for_reading(self.local, path)

    # --- reading ---

    def exists(self, path: str) -> bool:
        """Tells whether a file is there now (no cached listing is asked)."""
        return self.backend.exists(path)

    def size(self, path: str) -> int:
        """Returns the bytes of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return self.backend.size(path)

    def holds(self, reference: FileReference) -> bool:
        """Tells whether a file is there with the size that its reference says; its content is not read."""
        try:
            return self.size(reference.path) == reference.bytes
        except FileNotFoundError:
            return False

    def names(self, folder: str) -> list[str]:
        """Returns the names, sorted, of what lies in a folder; none when there is no such folder."""
        try:
            return sorted(name for name in self.backend.names(folder) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str) -> bytes:
        """Returns the content of a file.

        Raises:
            PixdexError: there is no such file.
        """
        try:
            return self.backend.read(path)
        except FileNotFoundError as error:
            raise missing(self, path) from error

    def open(self, path: str) -> BufferedIOBase:
        """Opens a file for reading, seekable.

        Raises:
            PixdexError: there is no such file.
        """
        try:
            return self.backend.open(path)
        except FileNotFoundError as error:
            raise missing(self, path) from error

    def open_ranges(self, path: str) -> BufferedIOBase:
        """Opens a file for reading large ranges of bytes: nothing is read ahead or kept.

        Raises:
            PixdexError: there is no such file.
        """
        try:
            return self.backend.open_ranges(path)
        except FileNotFoundError as error:
            raise missing(self, path) from error

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Returns ranges of bytes of a file of a root that is no folder, each from one offset to another.

        Cost: a request a range, 32 at a time where the library of the store can.

        Raises:
            PixdexError: there is no such file.
        """
        try:
            return uris.read_ranges(self.filesystem, self.full(path), ranges)
        except FileNotFoundError as error:
            raise missing(self, path) from error

    def sha256(self, path: str) -> str:
        """Returns the sha256 of a file in hexadecimal, read 1 MiB at a time.

        Raises:
            PixdexError: there is no such file.
        """
        hasher = hashlib.sha256()
        with self.open(path) as stream:
            while part := stream.read(_HASH_CHUNK):
                hasher.update(part)
        return hasher.hexdigest()

    def check(self, reference: FileReference) -> None:
        """Checks that a file is the one that its reference speaks of; of a `sha256:` reference, its whole content.

        Cost: reads it once, at 1.2 GB/s.

        Raises:
            PixdexError: the file is missing or damaged.
        """
        if not self.exists(reference.path):
            raise missing(self, reference.path)
        if not self.holds(reference):
            raise damaged(self, reference.path, f"it should have {reference.bytes} bytes")
        scheme, _, checksum = reference.checksum.partition(":")
        if scheme == "sha256" and self.sha256(reference.path) != checksum:
            raise damaged(self, reference.path, "it does not match its checksum")

    def read_record(self, path: str, kind: type[T]) -> T:
        """Reads a JSON record.

        Raises:
            PixdexError: there is no such file, or it holds something else.
        """
        return decode(self.read(path), kind, f"{self.url}/{path}")

    def find_record(self, path: str, kind: type[T]) -> T | None:
        """Reads a JSON record, or returns None when there is no such file."""
        try:
            data = self.backend.read(path)
        except FileNotFoundError:
            return None
        return decode(data, kind, f"{self.url}/{path}")

    def changed(self, path: str) -> float:
        """Returns when a file was last written, in seconds since the epoch; 0 when there is none."""
        try:
            return self.backend.changed(path)
        except FileNotFoundError:
            return 0.0

    def newest(self, folder: str) -> float:
        """Returns when the newest file of a folder was written, in seconds since the epoch; 0 when it has none."""
        try:
            return self.backend.newest(folder)
        except (FileNotFoundError, NotADirectoryError):
            return 0.0

    def walk(self, folder: str, *, hidden: bool = False) -> Iterator[StoredFile]:
        """Lists the files of a folder and of all below it; those with a hidden name only when they are asked for."""
        for file in self.backend.walk(folder):
            if hidden or not file.path.rpartition("/")[2].startswith("."):
                yield file

    # --- writing ---

    def create(self, path: str, data: bytes) -> bool:
        """Creates a file with this content unless one of that name is there. Returns whether this call created it.

        The file is whole, and on disk, when it becomes visible.
        """
        return self.backend.create(path, data)

    def commit(self, path: str, record: T) -> T:
        """Creates a JSON record, or adopts the one that is there. Returns the one that is committed."""
        if self.create(path, encode(record)):
            return record
        return self.read_record(path, type(record))

    def overwrite(self, path: str, data: bytes) -> None:
        """Writes a small file whether or not it is there; it is never seen half written. For nothing that must last."""
        self.backend.overwrite(path, data)

    def remove(self, path: str) -> None:
        """Removes a file; that it is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.backend.remove(path)

    def remove_folder(self, folder: str) -> None:
        """Removes a folder with all that is in it; that it is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.backend.remove_folder(folder)

    def remove_empty_folders(self, folders: Iterable[str]) -> None:
        """Removes what is empty of these folders and of all below them; object stores have no folders."""
        self.backend.remove_empty_folders(folders)

    def upload(self, file: Path, folder: str, stem: str, checksum: str | None = None) -> FileReference:
        """Puts a finished local file under `folder/stem-<hash><ending>`; the local file may be moved away.

        Twice the same file is the same name, so that a repeated upload changes nothing.

        Args:
            file: what to upload.
            folder, stem: where, and the first part of the name.
            checksum: `scheme:hex` that covers the content; by default its sha256 (1.2 GB/s).
        """
        checksum = checksum or f"sha256:{sha256_of(file)}"
        path = f"{folder}/{stem}-{checksum.partition(':')[2][:16]}{file.suffix}"
        return self.upload_as(file, path, checksum)

    def upload_as(self, file: Path, path: str, checksum: str) -> FileReference:
        """Puts a finished local file under a name whose folder is already named by its content."""
        size = file.stat().st_size
        self.backend.place(file, path)
        return FileReference(path, size, checksum)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder for files to be uploaded; on a local root it is on the same filesystem."""
        with scratch.temporary_folder(self._scratch) as folder:
            yield folder

    @property
    def _scratch(self) -> Path | None:
        return None if self.local is None else inside.for_listing(self.local, layout.SCRATCH)

    def sweep_scratch(self) -> None:
        """Removes temporary folders that dead processes of this machine left in a local root."""
        if self._scratch is not None:
            scratch.sweep(self._scratch)

    def scratch_of_others(self) -> Iterator[StoredFile]:
        """Lists what processes of other machines have, or left, in temporary folders of a local root."""
        if self._scratch is None:
            return
        for file in self.walk(layout.SCRATCH, hidden=True):
            if scratch.process_of(file.path.split("/")[1]) is None:
                yield file

    def probe(self) -> None:
        """Checks that a new root can be written and that creating a file twice is noticed.

        Raises:
            UsageError: it cannot, or the store ignores the condition (and would lose commits).
        """
        try:
            with self.scratch() as folder:  # what a killed probe leaves on a folder is swept with it
                path = f"{layout.SCRATCH}/{folder.name}/probe-{uuid.uuid4().hex}"
                first, second = self.create(path, b"1"), self.create(path, b"2")
                kept = self.read(path)
                self.backend.remove(path)
        except OSError as error:
            raise UsageError(
                f"--root {self.url} cannot be written ({error.strerror or error}): choose another"
            ) from error
        if not (first and not second and kept == b"1"):
            raise UsageError(
                f"--root {self.url} ignores create-only writes, so that two runs could overwrite each other: "
                "use a store that honours If-None-Match, or a folder"
            )


def sha256_of(file: Path) -> str:
    """Returns the sha256 of a local file in hexadecimal (about 1.2 GB/s)."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def missing(store: Store, path: str) -> PixdexError:
    """The error for a file that should be below a root and is not."""
    return PixdexError(f"{store.url}/{path} is missing: restore it from a backup; pixdex verify says what else helps")


def damaged(store: Store, path: str, why: str) -> PixdexError:
    """The error for a file below a root that is not what was written."""
    return PixdexError(
        f"{store.url}/{path} is damaged ({why}): restore it from a backup; pixdex verify says what else helps"
    )
