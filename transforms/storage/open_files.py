"""The limit on files that a process may have open: raised as far as it may be, and named when it is met."""

import contextlib
import errno
import resource

from transforms.errors import PixdexError


def raise_limit() -> None:
    """Raises the soft limit of this process (often 1,024 or less) to the hard one, where the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited" and means a number
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def too_many(error: OSError, wanted: int) -> PixdexError | None:
    """Returns what to say of an error when it is that no more files can be opened, of which `wanted` are needed."""
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return PixdexError(
        f"{wanted} files must be open at once, and this process may open {limit} in all: raise the limit with "
        f"'ulimit -n {2 * wanted + 1024}', in /etc/security/limits.conf where that is refused"
    )
