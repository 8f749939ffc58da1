"""Reads faiss files of a root, which may come from anybody: an index is all in its own file, and of a kind built here.

A faiss file can name another one that holds its lists, and faiss opens that one while it reads. Mapped, it does not: so
a file that is to be read and has the word for such lists in it is mapped first, and looked at.
"""

import mmap
import tempfile
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from transforms.errors import UsageError

_ELSEWHERE: Final = b"ilod"
"""What stands in a file whose lists are in another; by chance among vectors, too."""


def read(file: Path, flags: int = 0) -> Any:  # faiss is untyped
    """Reads an IVF index, with the flags of `faiss.read_index`.

    Cost: one look at every byte of a file whose lists are not to be mapped, at several GB/s.

    Raises:
        UsageError: its lists are in another file, or it is none of the indexes that are built here.
        RuntimeError: faiss cannot read it.
    """
    if not flags & faiss.IO_FLAG_SKIP_IVF_DATA and _has_word(file):
        _check(faiss.read_index(str(file), faiss.IO_FLAG_MMAP), file)
    return _check(faiss.read_index(str(file), flags), file)


def from_bytes(data: bytes, name: str, flags: int = 0) -> Any:
    """Returns the same of the bytes of a file; `name` is where they come from, for the message."""
    if _ELSEWHERE in data:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "index.faiss"
            file.write_bytes(data)
            _check(faiss.read_index(str(file), faiss.IO_FLAG_MMAP), file, name)
    return _check(faiss.deserialize_index(np.frombuffer(data, np.uint8), flags), Path(name))


def _has_word(file: Path) -> bool:
    with file.open("rb") as stream:
        if not file.stat().st_size:
            return False  # an empty file cannot be mapped
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(_ELSEWHERE) >= 0


def _check(index: Any, file: Path, name: str | None = None) -> Any:
    """Returns an index that is all in this file; `name` stands for it in a message."""
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    if not isinstance(inner, faiss.IndexIVF) or not _is_quantizer(faiss.downcast_index(inner.quantizer)):
        raise UsageError(f"{name or file} is an index of a kind that pixdex does not build: use another root")
    lists = faiss.downcast_InvertedLists(inner.invlists)
    # Of lists that are mapped in the file itself faiss keeps no name; of those that it did not open it has no bytes.
    if isinstance(lists, faiss.OnDiskInvertedLists) and (lists.filename or lists.ptr is None):
        raise UsageError(
            f"{name or file} keeps its lists in another file ({lists.filename[:200]!r}): this is no index of pixdex, "
            "use another root"
        )
    return index


def _is_quantizer(quantizer: Any) -> bool:
    if isinstance(quantizer, faiss.IndexHNSWFlat):
        quantizer = faiss.downcast_index(quantizer.storage)
    return isinstance(quantizer, faiss.IndexFlat)
