"""The errors a person is meant to read: one line that says what is wrong and how to mend it."""


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
