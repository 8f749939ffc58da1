"""Keeps a root that is a folder to itself: no name and no link below it leads out of it.

A root may come from anybody. What its records name is looked at where they are decoded (`errors.check_path`); here is
what only the filesystem knows. What is read may stand behind a link that stays in the root. What is written, removed or
listed may not: behind a link it has two names, and whoever drops the one would empty the other.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from transforms.errors import UsageError


def for_reading(root: Path, path: str) -> Path:
    """Returns where a path of a root is on this machine.

    Cost: one look at each folder on the way, some microseconds.

    Raises:
        UsageError: it leads out of the root, by its names or by a link.
    """
    link = _first_link(root, path, with_last=True)
    whole = root / path
    if link is not None:
        base, target = os.path.realpath(root), os.path.realpath(whole)
        if target != base and not target.startswith(f"{base.rstrip('/')}/"):
            raise _leads_out(link)
    return whole


def for_naming(root: Path, path: str) -> Path:
    """Returns the same for a file that is to be made or removed: the last name may be a link, none before it.

    Raises:
        UsageError: another one is a link, or the names lead out of the root.
    """
    link = _first_link(root, path, with_last=False)
    if link is not None:
        raise _leads_out(link)
    return root / path


def for_listing(root: Path, folder: str) -> Path:
    """Returns the same for a folder all of whose files may be removed: it is no link, nor any folder above it.

    Raises:
        UsageError: one is, or the names lead out of the root.
    """
    link = _first_link(root, folder, with_last=True)
    if link is not None:
        raise _leads_out(link)
    return root / folder


def open_shared(file: Path, *, create: bool = False) -> BinaryIO:
    """Opens a file that several processes write to at once, for reading and writing, and never through a link.

    Args:
        file: its path.
        create: make it, if it is not there yet.

    Raises:
        UsageError: a link has its name, or something that is no file.
        FileNotFoundError: it is not there.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_CREAT if create else 0)
    if file.is_symlink():
        raise _leads_out(str(file))
    descriptor = os.open(file, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{file} is no file, and pixdex writes one of that name: remove it")
    return os.fdopen(descriptor, "r+b")


def _first_link(root: Path, path: str, *, with_last: bool) -> str | None:
    """Returns the first link among the names of a path, as a path of this machine."""
    names = [name for name in path.split("/") if name]
    if path.startswith("/") or "\0" in path or ".." in names:
        raise UsageError(f"{path[:200]!r} is no path below {root}: pixdex made no such root, use another")
    place = str(root).rstrip("/")
    for number, name in enumerate(names, 1):
        place = f"{place}/{name}"
        if (with_last or number < len(names)) and os.path.islink(place):  # noqa: PTH114 - a path of few objects
            return place
    return None


def _leads_out(link: str) -> UsageError:
    return UsageError(
        f"{link} is a link, and what lies in a root is really in it: put the files there themselves, or mount the "
        "folder that they are in"
    )
