"""Makes one local faiss file of the segments of an index on an object store, once, for searches to map."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, cast

from transforms import generations
from transforms.cache_folder import cache_folder
from transforms.errors import PixdexError
from transforms.index.faiss_file import write_head
from transforms.index.range_merge import merge_range, merged_sizes
from transforms.index.trained import read_training
from transforms.merge_inputs import ListsReference, MergeInputs
from transforms.records import FileReference, Generation
from transforms.store import Store, missing

_MAKING = ".making-"
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
    root = cache_folder() / hashlib.sha256(store.url.encode()).hexdigest()[:16]
    folder = root / generation.index.checksum.removeprefix(generations.SEGMENTS)
    file, size = folder / "index.faiss", folder / "bytes"
    if not _is_whole(file, size):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside = tempfile.TemporaryDirectory(dir=folder, prefix=_MAKING)
        except OSError as error:
            raise _unwritable(folder, generation, error) from error
        with aside as name:
            try:
                _write(store, generation, Path(name) / file.name)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise  # not of the cache: of the store
                raise _unwritable(folder, generation, error) from error
            (Path(name) / size.name).write_text(f"{(Path(name) / file.name).stat().st_size}\n")
            for whole in (file, size):
                os.replace(Path(name) / whole.name, whole)  # noqa: PTH105 - the atomic primitive, by its own name
        _remove_others(folder)
    return file


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


def _unwritable(folder: Path, generation: Generation, error: OSError) -> PixdexError:
    return PixdexError(
        f"{folder} cannot take the local copy of the index, {generation.index.bytes} bytes ({error.strerror}): "
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
        out.flush()
        os.fsync(out.fileno())


def _segments(store: Store, generation: Generation) -> list[ListsReference]:
    rows = generations.read_table(store, generation.tables.segments).to_pylist()
    return [
        ListsReference(
            range(row["first_list"], row["last_list"]), FileReference(row["path"], row["bytes"], row["checksum"])
        )
        for row in rows
    ]
