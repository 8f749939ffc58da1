"""The errors a person is meant to read: one line that says what is wrong and how to mend it."""

import re
from typing import Final


class PixdexError(Exception):
    """A job cannot go on (exit code 1): the message names the value, the limit and the way out, on one line."""


class UsageError(PixdexError):
    """The request itself is wrong (exit code 2): nothing was done, and the message says what to change."""


class UnsafePathError(UsageError, ValueError):
    """A path that a root names, and that is not plainly one below it; whoever reads it adds where it was read."""


def check_path(path: str) -> None:
    """Refuses a path that is not plainly one below a root: a root may come from anybody.

    Such a path is made of names with a slash between. It has no name `.` or `..`, does not begin or end with a slash,
    and holds no backslash and no character that cannot be seen. Where links lead is looked at where a file is opened.

    Raises:
        UnsafePathError: it is another.
    """
    if not path.isprintable() or "\\" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise UnsafePathError(
            f"{path[:200]!r} is no path of a file below a root: pixdex made no such root, use another"
        )


_CHECKSUM: Final = re.compile(r"(?:sha256|pieces|segments):[0-9a-f]{64}|xxh3:[0-9a-f]{16}")


def check_file(path: str, size: int, checksum: str) -> None:
    """Checks that what refers to a file can be held against it: by a known scheme of checksums, and every digit of one.

    Raises:
        ValueError: any file, or none, would do.

    >>> check_file("lists/a.ivf", 9, "xxh3:0123")
    Traceback (most recent call last):
    ValueError: lists/a.ivf is referred to with the checksum 'xxh3:0123', which is none
    """
    if size < 0:
        raise ValueError(f"{path} is referred to with {size} bytes")
    if _CHECKSUM.fullmatch(checksum) is None:
        raise ValueError(f"{path} is referred to with the checksum {checksum!r}, which is none")
