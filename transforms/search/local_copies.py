"""Local copies of what lies on an object store, made once, for searches to map: a faiss file of segments, deltas."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from transforms.errors import PixdexError, UsageError
from transforms.generations import merged_index, tables
from transforms.generations.manifest import Generation
from transforms.generations.merged_index import FileRange
from transforms.index.faiss_file import write_head
from transforms.index.lists.inputs import ListsReference, MergeInputs
from transforms.index.lists.merge import PIECE_BYTES, merge_range, merged_sizes, plan_pieces
from transforms.index.lists.opened import seal_of
from transforms.index.lists.reader import ListFile
from transforms.index.trained import read_training
from transforms.record_json import decode, encode
from transforms.records import FORMAT_VERSION, FileReference
from transforms.storage import atomic
from transforms.storage.cache_folder import cache_folder
from transforms.storage.store import Store, damaged, missing

_MAKING = ".making-"
_DIGITS = re.compile("[0-9a-f]+")
_COPIED_AT_ONCE = 16 << 20
_DEAD_SECONDS = 24 * 3600
"""A copy that was begun so long ago is no longer being made."""
_YOUNG_SECONDS = 10


@dataclass(frozen=True)
class LocalCopy:
    """What was copied, range by range; stands beside the copy."""

    ranges: tuple[FileRange, ...]
    format_version: int = FORMAT_VERSION


def materialise(store: Store, generation: Generation, *, check: bool = False) -> Path:
    """Returns the local copy of the merged index, an ordinary faiss file; makes it when it is not there yet.

    Whether the one that is there is whole is seen by its size and the checksum of its head, and, to `check` it, by
    those of all its lists. One that is not is made again.

    Takes as much of the disk of `cache_folder()` as the index has bytes, and two steps of a merge in memory. Every byte
    read is checked. The file gets its name when it is whole, so that two processes may make it at once.

    A root has one copy, of the generation that was opened last: a new one removes the others, when it is whole. Who
    has one of them open keeps it until it is closed; opening that generation again makes its copy again.

    Raises:
        PixdexError: the cache folder cannot be written, or a segment is missing or damaged.
    """
    folder = _folder(store, generation)
    file, about = folder / "index.faiss", folder / "ranges.json"
    if not _is_whole(file, about, generation, check=check):
        with aside(folder, _copy_of(generation.index)) as making:
            with (making / about.name).open("xb") as stream:
                stream.write(encode(write_copy(store, generation, making / file.name)))
            for whole in (file, about):
                atomic.replace(making / whole.name, whole)
        _remove_others(folder)
    return file


def cached_lists(store: Store, generation: Generation, reference: FileReference) -> Path:
    """Returns the local copy of a delta; makes it, every byte checked, when it is not there yet.

    It lies beside the copy of the merged index: generations that share this share their deltas too, and all of them go
    with it.

    Raises:
        PixdexError: the cache folder cannot be written, or the delta is missing or damaged.
    """
    folder = _folder(store, generation)
    file = folder / f"{_digest_of(reference)}-{reference.bytes}.ivf"
    if not file.is_file() or file.stat().st_size != reference.bytes:
        with aside(folder, _copy_of(reference)) as making:
            _copy(store, reference, making / file.name)
            atomic.replace(making / file.name, file)
        _remove_others(folder)
    return file


def _folder(store: Store, generation: Generation) -> Path:
    root = cache_folder() / hashlib.sha256(store.url.encode()).hexdigest()[:16]
    return root / _digest_of(generation.index)


def _digest_of(reference: FileReference) -> str:
    """Returns the digits of a checksum, which name a file or a folder here.

    Raises:
        UsageError: they are none, but a path, say, of what would then be removed.
    """
    digits = reference.checksum.partition(":")[2]
    if not _DIGITS.fullmatch(digits):
        raise UsageError(f"{reference.path}: {reference.checksum[:200]!r} is no checksum: pixdex made no such root")
    return digits


@contextlib.contextmanager
def aside(folder: Path, what: str) -> Iterator[Path]:
    """A new folder inside this one, in which a copy is made until it is whole; what dead processes left there goes.

    Args:
        folder: is made where it is not there.
        what: is copied, for a message.

    Raises:
        PixdexError: there is no room, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        made = tempfile.TemporaryDirectory(dir=folder, prefix=_MAKING, ignore_cleanup_errors=True)
        lock = os.open(made.name, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(folder, what, error) from error
    try:
        with contextlib.suppress(OSError):  # a filesystem without locks: what is left there stays
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with made as name:
            yield Path(name)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise  # not of the cache: of the store
        raise _unwritable(folder, what, error) from error
    finally:
        os.close(lock)


def _sweep(folder: Path) -> None:
    """Removes copies that are no longer being made: whoever makes one holds a lock on its folder."""
    for other in folder.glob(f"{_MAKING}*"):
        with contextlib.suppress(OSError):  # another process removes it, too
            if _is_dead(other):
                shutil.rmtree(other)


def _is_dead(copy: Path) -> bool:
    if copy.is_symlink() or copy.stat().st_mtime > time.time() - _YOUNG_SECONDS:
        return False  # its maker may not have locked it yet
    lock = os.open(copy, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove_others(kept: Path) -> None:
    """Removes the copies beside this one, but for those that are being made."""
    for other in kept.parent.iterdir():
        with contextlib.suppress(OSError):  # another process removes it, too
            if other != kept and not other.is_symlink() and not _is_being_made(other):
                shutil.rmtree(other)


def _is_being_made(folder: Path) -> bool:
    # An empty folder is one whose maker has just begun.
    begun = list(folder.glob(f"{_MAKING}*")) if any(folder.iterdir()) else [folder]
    return any(one.stat().st_mtime > time.time() - _DEAD_SECONDS for one in begun)


def _is_whole(file: Path, about: Path, generation: Generation, *, check: bool) -> bool:
    try:
        ranges = decode(about.read_bytes(), LocalCopy, str(about)).ranges
        if not merged_index.are_whole(ranges, generation.trained.nlist, file.stat().st_size):
            return False
        return not any(True for _ in merged_index.wrong_ranges(file, ranges if check else ranges[:1]))
    except (OSError, PixdexError):  # of before there were checksums, or damaged as well
        return False


def _unwritable(folder: Path, what: str, error: OSError) -> PixdexError:
    return PixdexError(f"{folder} cannot take {what} ({error.strerror}): set XDG_CACHE_HOME to a folder with room")


def _copy_of(reference: FileReference) -> str:
    return f"the local copy of the index, {reference.bytes} bytes"


def write_copy(store: Store, generation: Generation, file: Path, lists: range | None = None) -> LocalCopy:
    """Writes a faiss file of the segments, with all lists or some, the others empty; every byte is checked.

    Memory: two steps of a merge.

    Raises:
        PixdexError: a segment is missing or damaged.
    """
    trained, layout = generation.trained, read_training(store, generation.trained).layout
    lists = range(trained.nlist) if lists is None else lists
    with contextlib.closing(MergeInputs(store, segments_of(store, generation))) as inputs, file.open("x+b") as out:
        segments = inputs.over(lists)
        if not store.exists(trained.index.path):
            raise missing(store, trained.index.path)
        sizes = merged_sizes(segments)
        sizes[: lists.start] = sizes[lists.stop :] = 0
        with store.open(trained.index.path) as head:
            hashed = _Hashed(cast(BinaryIO, head))
            size = write_head(cast(BinaryIO, hashed), out, layout, sizes)
        if hashed.checksum != trained.index.checksum:
            raise damaged(store, trained.index.path, "it does not match its checksum")
        parts = [FileRange(0, 0, 0, size, merged_index.checksum_of(out, 0, size))]
        out.seek(size)
        for some in plan_pieces(segments, PIECE_BYTES, lists):
            merged = merge_range(segments, some, out, fingerprint=trained.fingerprint, buffers=inputs.buffers)
            parts.append(FileRange(some.start, some.stop, size, merged.bytes, f"xxh3:{merged.checksum}"))
            size += merged.bytes
        atomic.flush(out)
    return LocalCopy(tuple(parts))


class _Hashed:
    """A file that is read from its start to its end, and what it held."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._hasher = stream, hashlib.sha256()

    def read(self, length: int) -> bytes:
        part = self._stream.read(length)
        self._hasher.update(part)
        return part

    @property
    def checksum(self) -> str:
        return f"sha256:{self._hasher.hexdigest()}"


def _copy(store: Store, reference: FileReference, file: Path) -> None:
    with store.open_ranges(reference.path) as source, file.open("x+b") as out:
        left = reference.bytes
        # Not to the end, but so many: Cloud Storage refuses to be asked for more than there is.
        while left and (part := source.read(min(left, _COPIED_AT_ONCE))):
            out.write(part)
            left -= len(part)
        atomic.flush(out)
        ListFile(out, reference.path, seal_of(reference)).verify()


def segments_of(store: Store, generation: Generation) -> list[ListsReference]:
    """Returns the files of the merged index, and which lists each holds."""
    return [
        ListsReference(range(row["first_list"], row["last_list"]), tables.file_of(row))
        for row in tables.segment_rows(store, generation)
    ]
