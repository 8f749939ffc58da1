"""A root: any fsspec URL, with the two operations that make every commit safe.

*Upload* puts a finished local file under a name that contains its hash. *Create* makes a small file only if no file of
that name is there: the first one wins, and whoever comes second adopts what stands. A retried, doubled or zombie worker
can therefore do no harm. Beside them only the merge writes below a root: in place, into a hidden file that gets its
name when it is whole (`transforms.tasks.merge.file`).
"""

import contextlib
import datetime
import hashlib
import os
import re
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Any, TypeVar, cast

from transforms.errors import PixdexError, UsageError
from transforms.records import FileReference, decode, encode
from transforms.storage import layout, uris

T = TypeVar("T")

CREATE_ONLY_PROTOCOLS = ("file", "memory", "s3", "gs")
"""Where a conditional create exists and is used: `link`, a lock, `If-None-Match`, generation 0."""

_PROTOCOL_ALIASES = {"local": "file", "s3a": "s3", "gcs": "gs"}
_EXTRAS = {"s3": "s3", "gs": "gcp"}
_HASH_CHUNK = 1 << 20
_MEMORY_LOCK = threading.Lock()


@dataclass(frozen=True)
class Found:
    """A file of a root: its path, its size, and when it was written, in seconds since the epoch."""

    path: str
    bytes: int
    changed: float


@dataclass(frozen=True)
class Store:
    """The files of one root.

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
                return cls("file://" + os.path.abspath(path))  # noqa: PTH100 - follows no links
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
            store.filesystem  # noqa: B018 - the import behind it is what can fail
        except ImportError as error:
            raise UsageError(f"--root {location} needs: pip install 'pixdex[{_EXTRAS[protocol]}]'") from error
        return store

    @cached_property
    def filesystem(self) -> Any:  # fsspec is untyped
        """The fsspec filesystem of the root."""
        return self._opened[0]

    @property
    def _base(self) -> str:
        return self._opened[1]

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        # Other workers write here too: a kept listing would hide from `open` what they made since.
        filesystem, base = uris.filesystem_of(self.url, keep_listings=False)
        return filesystem, base.rstrip("/")

    @property
    def local(self) -> Path | None:
        """The root as a folder of this machine, or None when it is not one."""
        return Path(self._base) if self.url.startswith("file://") else None

    def full(self, path: str) -> str:
        """Returns what the filesystem calls a path of this root."""
        return f"{self._base}/{path}"

    def local_path(self, path: str) -> Path:
        """Returns a file of this root as a path of this machine.

        Raises:
            PixdexError: the root is on an object store.
        """
        if self.local is None:
            raise PixdexError(f"{self.url}/{path} is not on a local filesystem: copy the root to a folder first")
        return self.local / path

    # --- reading ---

    def exists(self, path: str) -> bool:
        """Tells whether a file is there now (no cached listing is asked)."""
        self.filesystem.invalidate_cache()
        return bool(self.filesystem.exists(self.full(path)))

    def holds(self, reference: FileReference) -> bool:
        """Tells whether a file is there with the size that its reference says; its content is not read."""
        self.filesystem.invalidate_cache()
        try:
            return bool(self.filesystem.size(self.full(reference.path)) == reference.bytes)
        except FileNotFoundError:
            return False

    def names(self, folder: str) -> list[str]:
        """Returns the names, sorted, of what lies in a folder; none when there is no such folder."""
        self.filesystem.invalidate_cache()
        try:
            entries = self.filesystem.ls(self.full(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = (entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return sorted(name for name in names if not name.startswith("."))

    def read(self, path: str) -> bytes:
        """Returns the content of a file.

        Raises:
            PixdexError: there is no such file.
        """
        try:
            return cast(bytes, self.filesystem.cat_file(self.full(path)))
        except FileNotFoundError as error:
            raise missing(self, path) from error

    def open(self, path: str) -> BufferedIOBase:
        """Opens a file for reading, seekable.

        Raises:
            PixdexError: there is no such file.
        """
        try:
            return cast(BufferedIOBase, self.filesystem.open(self.full(path), "rb"))
        except FileNotFoundError as error:
            raise missing(self, path) from error

    def open_ranges(self, path: str) -> BufferedIOBase:
        """Opens a file for reading large ranges of bytes: nothing is read ahead or kept.

        Raises:
            PixdexError: there is no such file.
        """
        try:
            if self.local is not None:
                return cast(BufferedIOBase, (self.local / path).open("rb", buffering=0))
            return cast(BufferedIOBase, self.filesystem.open(self.full(path), "rb", cache_type="none"))
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
            data = self.filesystem.cat_file(self.full(path))
        except FileNotFoundError:
            return None
        return decode(data, kind, f"{self.url}/{path}")

    def changed(self, path: str) -> float:
        """Returns when a file was last written, in seconds since the epoch; 0 when there is none."""
        self.filesystem.invalidate_cache()
        try:
            return _time_of(self.filesystem.info(self.full(path)))
        except FileNotFoundError:
            return 0.0

    def newest(self, folder: str) -> float:
        """Returns when the newest file of a folder was written, in seconds since the epoch; 0 when it has none."""
        self.filesystem.invalidate_cache()
        try:
            entries = self.filesystem.ls(self.full(folder), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return 0.0
        return max([0.0, *(_time_of(entry) for entry in entries)])

    def walk(self, folder: str, *, hidden: bool = False) -> Iterator[Found]:
        """Lists the files of a folder and of all below it; those with a hidden name only when they are asked for."""
        self.filesystem.invalidate_cache()
        base = self.full("")
        try:
            found = self.filesystem.find(self.full(folder), detail=True)
        except FileNotFoundError:
            return
        for name, info in found.items():
            path = str(name).removeprefix(base)
            if hidden or not path.rpartition("/")[2].startswith("."):
                yield Found(path, int(info["size"]), _time_of(info))

    # --- writing ---

    def create(self, path: str, data: bytes) -> bool:
        """Creates a file with this content unless one of that name is there. Returns whether this call created it.

        The file is whole, and on disk, when it becomes visible.
        """
        if self.local is not None:
            with self.scratch() as scratch:
                return _create_by_link(scratch / "new", self.local / path, data)
        guard = _MEMORY_LOCK if self.url.startswith("memory://") else contextlib.nullcontext()
        with guard:
            try:
                self.filesystem.pipe_file(self.full(path), data, mode="create")
            except OSError:  # not every version of s3fs calls a refused condition FileExistsError
                if self.exists(path):
                    return False
                raise
        return True

    def commit(self, path: str, record: T) -> T:
        """Creates a JSON record, or adopts the one that is there. Returns the record that stands."""
        if self.create(path, encode(record)):
            return record
        return self.read_record(path, type(record))

    def overwrite(self, path: str, data: bytes) -> None:
        """Writes a small file whether or not it is there; it is never seen half written. For nothing that must last."""
        if self.local is None:
            self.filesystem.pipe_file(self.full(path), data)
            return
        with self.scratch() as scratch:
            new = scratch / "new"
            new.write_bytes(data)
            target = self.local / path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(new, target)  # noqa: PTH105 - the atomic primitive, by its own name

    def remove(self, path: str) -> None:
        """Removes a file; that it is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(self.full(path))
        self.filesystem.invalidate_cache()

    def remove_empty_folders(self, folders: Iterable[str]) -> None:
        """Removes what is empty of these folders and of all below them; object stores have no folders."""
        if self.local is None:
            return
        for folder in folders:
            for found, _, _ in os.walk(self.local / folder, topdown=False):
                with contextlib.suppress(OSError):  # it is not empty, or someone else removes it
                    Path(found).rmdir()

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
        self._place(file, path)
        return FileReference(path, size, checksum)

    def _place(self, file: Path, path: str) -> None:
        if self.url.startswith("memory://"):  # its `put_file` shows a file that is not yet whole
            self.filesystem.pipe_file(self.full(path), file.read_bytes())
            return
        if self.local is None:
            self.filesystem.put_file(str(file), self.full(path))
            return
        target = self.local / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.stat().st_dev != target.parent.stat().st_dev:
            raise PixdexError(f"{file} is not on the filesystem of {target.parent}: write it in Store.scratch()")
        _sync(file)
        os.replace(file, target)  # noqa: PTH105 - the atomic primitive, by its own name
        _sync(target.parent)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder for files to be uploaded; on a local root it is on the same filesystem."""
        parent = None
        if self.local is not None:
            parent = self.local / layout.SCRATCH
            parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{socket.gethostname()}-{os.getpid()}-"
        with tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def sweep_scratch(self) -> None:
        """Removes temporary folders that dead processes of this machine left in a local root."""
        if self.local is None or not (parent := self.local / layout.SCRATCH).is_dir():
            return
        for folder in parent.iterdir():
            pid = _process_of(folder.name)
            if pid is not None and not _alive(pid):
                shutil.rmtree(folder, ignore_errors=True)

    def scratch_of_others(self) -> Iterator[Found]:
        """Lists what processes of other machines have, or left, in temporary folders of a local root."""
        if self.local is None:
            return
        for file in self.walk(layout.SCRATCH, hidden=True):
            if _process_of(file.path.split("/")[1]) is None:
                yield file

    def probe(self) -> None:
        """Checks that a new root can be written and that creating a file twice is noticed.

        Raises:
            UsageError: it cannot, or the store ignores the condition (and would lose commits).
        """
        try:
            with self.scratch() as scratch:  # on a folder, what a killed probe leaves is swept with it
                path = f"{layout.SCRATCH}/{scratch.name}/probe-{uuid.uuid4().hex}"
                first, second = self.create(path, b"1"), self.create(path, b"2")
                kept = self.read(path)
                self.filesystem.rm_file(self.full(path))
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


def _create_by_link(new: Path, target: Path, data: bytes) -> bool:
    with new.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(new, target)  # fails if the target exists, which a rename does not
    except FileExistsError:
        return False
    _sync(target.parent)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _time_of(info: dict[str, Any]) -> float:
    """When a file was written, as its filesystem says it, in seconds since the epoch."""
    found = info.get("mtime", info.get("LastModified", info.get("updated", info.get("created", 0))))
    if isinstance(found, str):
        found = datetime.datetime.fromisoformat(found.replace("Z", "+00:00"))
    if isinstance(found, datetime.datetime):
        return found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp()
    return float(found or 0)


def _process_of(folder: str) -> int | None:
    """The process of this machine that made a temporary folder; None where it is of another machine."""
    # The whole name is matched: `node-2-…` is of the host `node-2`, not of process 2 on `node`.
    match = re.fullmatch(re.escape(socket.gethostname()) + r"-(\d+)-[^-]*", folder)
    return int(match[1]) if match else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
