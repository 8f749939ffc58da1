"""What a reject says: the same words for the same fault, on every run and machine."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from typing import Final

MESSAGE_LIMIT: Final = 300
"""Characters of a normalised message, at most."""

LINE: Final = r"^line \d+: "
"""How a message begins that names the line of a file (see `on_line`)."""

_LONGEST_READ = 4096
_RULES: Final = (
    # `object at 0x7f…`: where an object happened to lie
    (re.compile(r" at 0x[0-9A-Fa-f]+"), ""),
    (re.compile(r"\b0x[0-9A-Fa-f]{7,}\b"), "<address>"),
    (re.compile(r"\b[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\b"), "<uuid>"),
    # Fri, 20 Nov 2026 20:27:41 GMT; 2026-11-20T20:27:41.123+01:00; 20:27:41
    (re.compile(r"\b[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d(?: GMT| [+-]\d{4})?"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?Z\b| ?[+-]\d\d:?\d\d\b)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    # 0.53 s, 12 seconds, 80ms
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:s|secs?|seconds?|ms|milliseconds?|minutes?)\b"), "<duration>"),
    (re.compile(r"\b(pid|thread|started)[ =:]+(?:daemon )?\d+", re.IGNORECASE), r"\1 <number>"),
    (re.compile(r"\b(ThreadPoolExecutor|Thread|Process|SpawnProcess)-\d+(?:_\d+)?"), r"\1"),
)


@dataclass(frozen=True)
class Failure:
    """Why one row could not be embedded; as text, `Type: message`."""

    stage: str
    type: str
    message: str

    @classmethod
    def of(cls, stage: str, error: BaseException) -> Failure:
        """Describes an exception in a way that is the same on every machine; what was fetched is named by its item."""
        return cls(stage, type(error).__name__, normalised_message(error, is_named=stage == "fetch"))

    def __str__(self) -> str:
        """The type and the message, or the type alone where there is no message."""
        return self.type if self.message == self.type else f"{self.type}: {self.message}"


def on_line(line: int, message: str) -> str:
    """Returns a message that names the line of a file on which a row begins.

    >>> on_line(7, "not enough image data")
    'line 7: not enough image data'
    """
    return f"line {line}: {message}"


def normalised_message(error: BaseException, *, is_named: bool = False) -> str:
    """What an error says, as one line of at most 300 characters that any other run would write too.

    Memory addresses, UUIDs, times, durations, process and thread numbers and paths of temporary files are replaced by
    words; line breaks and control characters by spaces; what cannot be encoded as UTF-8 by "?". An error without a
    message gives the name of its type. Numbers and paths of any other kind stay, because they say what was wrong.

    Args:
        error: what was raised.
        is_named: the message stands beside the name of the file that was opened, so that an OSError need not name it.
    """
    try:
        if is_named and isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = str(error.strerror)
        else:
            text = str(error)
    except Exception:  # noqa: BLE001 - a faulty __str__ of someone's exception must not hide that exception
        text = ""
    text = text[:_LONGEST_READ].encode("utf-8", "replace").decode("utf-8")
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    for folder in sorted(
        {tempfile.gettempdir(), "/tmp", "/var/tmp", "/var/folders", "/dev/shm"}, key=len, reverse=True
    ):
        text = re.sub(rf"(?<![\w./-]){re.escape(folder)}/[^\s'\"<>,;:)]+", "<temporary file>", text)
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    text = text.strip() or type(error).__name__
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"
