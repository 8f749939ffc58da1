"""The primitives of a filesystem that a commit stands upon: a name is given to a whole file, at once or not at all.

A file is on disk when its content and then the folder with its name are synced; until then a power cut may undo it.
"""

import os
from pathlib import Path
from typing import IO


def link(file: Path, target: Path) -> None:
    """Gives a whole, synced file a second name; the folder of that name is not synced.

    Raises:
        FileExistsError: there is a file of that name, which a rename would not notice.
    """
    os.link(file, target)


def replace(file: Path, target: Path) -> None:
    """Moves a file to a name of the same filesystem, in place of what has it; neither it nor the folder is synced."""
    os.replace(file, target)  # noqa: PTH105 - the atomic primitive, by its own name


def flush(stream: IO[bytes]) -> None:
    """Waits until all that was written to an open file is on disk."""
    stream.flush()
    os.fsync(stream.fileno())


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
