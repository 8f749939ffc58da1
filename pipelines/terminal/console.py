"""All that a person sees: results on stdout, the way there and errors on stderr, and exit codes."""

import errno
import io
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO, TypeVar

from transforms.errors import PixdexError, UsageError

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

LEAST_COLUMNS = 20
"""Of a terminal on which progress is a bar; on a narrower one, or one of 0 columns as containers have, it is lines."""

T = TypeVar("T")

_STEP = r"(?: \[while running '.*)?$"
"""Beam adds to a worker's message in which step it was raised; a step's name is no help to the reader."""

_WORKER_ERROR = re.compile(r"transforms\.errors\.(UsageError|PixdexError): (.+?)" + _STEP, re.MULTILINE)
_WORKER_OS_ERROR = re.compile(r"\b(?:OSError|PermissionError): \[Errno (\d+)\] (.+?)" + _STEP, re.MULTILINE)
_STORES = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google.auth")
"""Libraries whose errors say that a store was not reached, or did not let us in, in words of their own."""
_WORKER_STORE_ERROR = re.compile(
    rf"^(?:{'|'.join(map(re.escape, _STORES))})\.(?:\w+\.)*(\w+): (.+?)" + _STEP, re.MULTILINE
)
_WORKER_INTERRUPTED = re.compile(r"^(?:RuntimeError: )?KeyboardInterrupt" + _STEP, re.MULTILINE)
_MACHINE_SAYS_NO = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR),
    }
)
"""Errors of the machine and not of this code: a traceback would say nothing more."""


def say(text: str) -> None:
    """Tells how the work goes, on stderr; that nobody can read it fails no work and changes no exit code."""
    if sys.stderr is None or sys.stderr.closed:  # closed before Python began (`2>&-`), or since; print would use stdout
        return
    try:
        print(f"{text}\n", end="", file=sys.stderr, flush=True)  # noqa: T201 - the one place; at once, so whole lines
    except OSError:  # what could not be written would be tried again at the exit, and its failure is one of its own
        _silence(sys.stderr)


def show(text: str) -> None:
    """Prints a result, on stdout."""
    print(text, flush=True)  # noqa: T201 - the one place


def show_json(record: object) -> None:
    """Prints the last line of stdout: one JSON object."""
    show(_as_json(record))


def show_lines(lines: Iterable[str]) -> None:
    """Prints many lines on stdout as they come."""
    for line in lines:
        print(line)  # noqa: T201 - the one place
    sys.stdout.flush()


def show_json_list(head: dict[str, object], name: str, rows: Iterable[object]) -> None:
    """Prints one JSON object on one line, whose last member is a list that is printed as it comes."""
    print(f"{_as_json(head)[:-1]}, {_as_json(name)}: [", end="")  # noqa: T201 - the one place
    for number, row in enumerate(rows):
        print(", " if number else "", _as_json(row), sep="", end="")  # noqa: T201 - likewise
    show("]}")


def is_live() -> bool:
    """Tells whether stderr is a terminal that a bar can be drawn on: one of a few columns shows nothing of it."""
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        return False
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:  # it has no size to ask for
        return True
    return columns >= LEAST_COLUMNS


def columns() -> int | None:
    """Returns how many columns the terminal has that stderr is; None: it is none, or too narrow to cut lines for."""
    try:
        found = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return None
    return found if found >= LEAST_COLUMNS else None


def run(main: Callable[[], int]) -> int:
    """Runs a job and turns its errors into one line on stderr and an exit code.

    0 done; 1 failed; 2 bad usage or bad input; 130 interrupted. An error that nobody foresaw keeps its traceback.
    """
    log_warnings()
    _show_any_letter()
    try:
        return main()
    except UsageError as error:
        say(f"pixdex: {_one_line(error)}")
        return BAD_USAGE
    except PixdexError as error:
        say(f"pixdex: {_one_line(error)}")
        return FAILED
    except BrokenPipeError:
        _silence(sys.stdout)
        return DONE
    except Exception as error:
        if _is_of_a_store(error):
            said = _not_reached(type(error).__name__, error)
        elif isinstance(error, OSError) and error.errno in _MACHINE_SAYS_NO:
            said = _refused(error)
        else:
            raise
        say(f"pixdex: {said}")
        return FAILED
    except KeyboardInterrupt:
        say("pixdex: interrupted; run the same command again to go on from here")
        return INTERRUPTED


def log_warnings() -> None:
    """Logs warnings on stderr, but not the errors that a job reports in one line once it has ended."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)  # Beam's worker lowers the level of the log itself
    # Workers log every error with its traceback.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    # And runners elsewhere send theirs, which Beam logs without saying that it does.
    logging.getLogger().addFilter(_is_of_this_job)  # once, however often it is asked for


def _is_of_this_job(record: logging.LogRecord) -> bool:
    return record.module != "portable_runner"


def from_worker(error: BaseException) -> PixdexError | KeyboardInterrupt | None:
    """Returns the error that a worker raised, from the text in which a runner hands it on; None for any other.

    Some runners hand on the error itself, with more text. A full disk, a missing permission and the like become an
    error of one line too. The in-process runner works in the thread that an interrupt reaches.
    """
    message = re.sub(_STEP, "", str(error), flags=re.MULTILINE)
    if isinstance(error, PixdexError):
        return type(error)(message)
    if _is_of_a_store(error):
        return PixdexError(_not_reached(type(error).__name__, message))
    return _from_text(str(error))


def from_task(error: Exception) -> PixdexError | KeyboardInterrupt | None:
    """Returns the same of what a task raised in this process, or of what that was raised for."""
    return from_worker(error) or _from_text("".join(traceback.format_exception(error)))


def _from_text(text: str) -> PixdexError | KeyboardInterrupt | None:
    if raised := _WORKER_ERROR.findall(text):
        kind, message = raised[-1]
        return UsageError(message) if kind == "UsageError" else PixdexError(message)
    if _WORKER_INTERRUPTED.search(text):
        return KeyboardInterrupt()
    for number, message in reversed(_WORKER_OS_ERROR.findall(text)):
        if int(number) in _MACHINE_SAYS_NO:
            return PixdexError(_refused(message))
    if said := _WORKER_STORE_ERROR.findall(text):
        return PixdexError(_not_reached(*said[-1]))
    return None


def _silence(stream: TextIO) -> None:
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _show_any_letter() -> None:
    """Lets stdout take what its encoding has no letters for, as stderr does; a name of a file may have any."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _as_json(record: object) -> str:
    """With letters as they are where stdout has all of them, and by their numbers elsewhere: both are JSON."""
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")
    return json.dumps(record, ensure_ascii=not unicode)


def _is_of_a_store(error: BaseException) -> bool:
    return f"{type(error).__module__}.".startswith(tuple(f"{name}." for name in _STORES))


def _not_reached(kind: str, what: object) -> str:
    said = _one_line(what).rstrip(".")
    return (
        f"{kind}: {said}: the store was not reached, or did not let this user in; look at its name, the network and "
        "the credentials, then run the same command again"
    )


def _refused(what: object) -> str:
    return f"{what}: make room or mend permissions, then run the same command again to go on from here"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
