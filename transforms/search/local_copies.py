"""Local copies of what lies on an object store, made once, for searches to map: a faiss file of segments, deltas."""

import contextlib
import errno
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from transforms.errors import PixdexError
from transforms.generations.manifest import Generation
from transforms.index.faiss_file import write_head
from transforms.index.lists.inputs import ListsReference, MergeInputs
from transforms.index.lists.merge import merge_range, merged_sizes
from transforms.index.lists.opened import seal_of
from transforms.index.lists.reader import ListFile
from transforms.index.trained import read_training
from transforms.records import FileReference
from transforms.storage import atomic, parquet_files
from transforms.storage.cache_folder import cache_folder
from transforms.storage.store import Store, missing

_MAKING = ".making-"
_COPIED_AT_ONCE = 16 << 20
_DEAD_SECONDS = 24 * 3600
"""A copy that was begun so long ago is no longer being made."""


def materialise(store: Store, generation: Generation) -> Path:
    """Returns the local copy of the merged index, an ordinary faiss file; makes it when it is not there yet.

    Takes as much of the disk of `cache_folder()` as the index has bytes, and two steps of a merge in memory. Every byte
    read is checked. The file gets its name when it is whole, so that two processes may make it at once.

    A root has one copy, of the generation that was opened last: a new one removes the others, when it is whole. Who
    has one of them open keeps it until it is closed; opening that generation again makes its copy again.

    Raises:
        PixdexError: the cache folder cannot be written, or a segment is missing or damaged.
    """
    folder = _folder(store, generation)
    file, size = folder / "index.faiss", folder / "bytes"
    if not _is_whole(file, size):
        with _aside(folder, generation.index) as aside:
            _write(store, generation, aside / file.name)
            (aside / size.name).write_text(f"{(aside / file.name).stat().st_size}\n")
            for whole in (file, size):
                atomic.replace(aside / whole.name, whole)
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
    file = folder / f"{reference.checksum.partition(':')[2]}-{reference.bytes}.ivf"
    if not file.is_file() or file.stat().st_size != reference.bytes:
        with _aside(folder, reference) as aside:
            _copy(store, reference, aside / file.name)
            atomic.replace(aside / file.name, file)
        _remove_others(folder)
    return file


def _folder(store: Store, generation: Generation) -> Path:
    root = cache_folder() / hashlib.sha256(store.url.encode()).hexdigest()[:16]
    return root / generation.index.checksum.partition(":")[2]


@contextlib.contextmanager
def _aside(folder: Path, copied: FileReference) -> Iterator[Path]:
    """A new folder inside this one, in which a copy is made until it is whole."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(dir=folder, prefix=_MAKING)
    except OSError as error:
        raise _unwritable(folder, copied, error) from error
    with aside as name:
        try:
            yield Path(name)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise  # not of the cache: of the store
            raise _unwritable(folder, copied, error) from error


def _remove_others(kept: Path) -> None:
    """Removes the copies beside this one, but for those that are being made."""
    for other in kept.parent.iterdir():
        with contextlib.suppress(OSError):  # another process removes it, too
            if other != kept and not _is_being_made(other):
                shutil.rmtree(other)


def _is_being_made(folder: Path) -> bool:
    # An empty folder is one whose maker has just begun.
    begun = list(folder.glob(f"{_MAKING}*")) if any(folder.iterdir()) else [folder]
    return any(one.stat().st_mtime > time.time() - _DEAD_SECONDS for one in begun)


def _is_whole(file: Path, size: Path) -> bool:
    try:
        return file.stat().st_size == int(size.read_text())
    except (OSError, ValueError):
        return False


def _unwritable(folder: Path, copied: FileReference, error: OSError) -> PixdexError:
    return PixdexError(
        f"{folder} cannot take the local copy of the index, {copied.bytes} bytes ({error.strerror}): "
        "set XDG_CACHE_HOME to a folder with room"
    )


def _write(store: Store, generation: Generation, file: Path) -> None:
    trained, layout = generation.trained, read_training(store, generation.trained).layout
    lists = range(trained.nlist)
    with contextlib.closing(MergeInputs(store, _segments(store, generation))) as inputs, file.open("wb") as out:
        segments = inputs.over(lists)
        if not store.exists(trained.index.path):
            raise missing(store, trained.index.path)
        with store.open(trained.index.path) as head:
            write_head(cast(BinaryIO, head), out, layout, merged_sizes(segments))
        merge_range(segments, lists, out, fingerprint=trained.fingerprint, buffers=inputs.buffers)
        atomic.flush(out)


def _copy(store: Store, reference: FileReference, file: Path) -> None:
    with store.open_ranges(reference.path) as source, file.open("w+b") as out:
        left = reference.bytes
        # Not to the end, but so many: Cloud Storage refuses to be asked for more than there is.
        while left and (part := source.read(min(left, _COPIED_AT_ONCE))):
            out.write(part)
            left -= len(part)
        atomic.flush(out)
        ListFile(out, reference.path, seal_of(reference)).verify()


def _segments(store: Store, generation: Generation) -> list[ListsReference]:
    rows = parquet_files.read(store, generation.tables.segments).to_pylist()
    return [
        ListsReference(
            range(row["first_list"], row["last_list"]), FileReference(row["path"], row["bytes"], row["checksum"])
        )
        for row in rows
    ]
