"""Why items were rejected, in few words: rejects counted by stage, type, and a message without what only one item has.

A message names a path, a line, or how many bytes were missing: said one by one, a thousand rejects are a thousand
reasons. Where those of a group differ, `<path>` and `<number>` stand in their places.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from transforms.records import FileReference
from transforms.rejects import LINE
from transforms.shards import files
from transforms.storage.store import Store

GROUPS: Final = 10_000
"""Groups that are told apart, at most; whatever comes after these is counted as others."""

_READERS: Final = 4
"""Files of rejects that are read, and held, at a time: one may hold those of a whole shard, 33 MB."""

_PATHS: Final = (
    # 'a b/c.png', "a/b", 'c.png'
    (r"'[^']*/[^']*'|'[^'/]*\.[A-Za-z0-9]{1,5}'", "<path>"),
    (r'"[^"]*/[^"]*"|"[^"/]*\.[A-Za-z0-9]{1,5}"', "<path>"),
    # file:///a/b.png#1, s3://bucket/a
    (r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>,;)]*[^\s'\"<>,;):.]", "<path>"),
    # /a/b.png
    (r"(^|[\s(=:'\"])/[^\s'\"<>,;):]+", r"\1<path>"),
)
_NUMBERS: Final = (
    (r"\[Errno (\d+)\]", r"[Errno_\1]"),  # says what it is, and stays
    (r"\b\d+(?:\.\d+)?\b", "<number>"),
    (r"\[Errno_(\d+)\]", r"[Errno \1]"),
)


@dataclass(frozen=True)
class Reason:
    """So many rejects of one stage, type and message."""

    count: int
    stage: str
    type: str
    message: str

    def __str__(self) -> str:
        """As a person is told it."""
        return f"{self.count:,} x {self.type}: {self.message}"


@dataclass
class Reasons:
    """Counts rejects by reason. Memory: a message and a number for each of at most 10,000 groups."""

    _groups: dict[tuple[str, str, str], tuple[int, str | None]] = field(default_factory=dict)
    _others: int = 0

    def add(self, rejects: pa.Table) -> None:
        """Counts some rejects (`REJECT_SCHEMA`). Cost: about a microsecond each."""
        if not len(rejects):
            return
        message = _replaced(rejects["message"], (LINE, ""))
        by = pa.table(
            {
                "stage": rejects["stage"],
                "type": rejects["type"],
                "template": _replaced(message, *_PATHS, *_NUMBERS),
                "message": message,
            }
        ).group_by(["stage", "type", "template"], use_threads=False)
        found = by.aggregate([("message", "count"), ("message", "count_distinct"), ("message", "one")])
        for row in found.to_pylist():
            example = row["message_one"] if row["message_count_distinct"] == 1 else None
            self._count((row["stage"], row["type"], row["template"]), row["message_count"], example)

    def _count(self, group: tuple[str, str, str], count: int, example: str | None) -> None:
        known = self._groups.get(group)
        if known is None and len(self._groups) >= GROUPS:
            self._others += count
        elif known is None:
            self._groups[group] = count, example
        else:
            self._groups[group] = known[0] + count, example if example == known[1] else None

    def most_common(self, number: int) -> list[Reason]:
        """Returns the reasons of most rejects, the most common first; equally common ones by their words."""
        reasons = [
            Reason(count, stage, kind, template if message is None else message)
            for (stage, kind, template), (count, message) in self._groups.items()
        ]
        return sorted(reasons, key=lambda one: (-one.count, one.stage, one.type, one.message))[:number]

    def left_out(self, number: int) -> int:
        """Returns how many reasons `most_common` leaves out; those past 10,000 are counted one by one."""
        return max(0, len(self._groups) - number) + self._others


def reasons_of(store: Store, rejects: Sequence[FileReference]) -> Reasons:
    """Counts the rejects of several files, some at a time."""
    reasons = Reasons()
    for table in read_all(store, rejects):
        reasons.add(table)
    return reasons


def read_all(store: Store, rejects: Sequence[FileReference]) -> Iterator[pa.Table]:
    """Yields the rejects (`REJECT_SCHEMA`) of several files, in their order. Memory: four files."""
    with ThreadPoolExecutor(_READERS, "rejects") as pool:
        for start in range(0, len(rejects), _READERS):
            yield from pool.map(lambda file: files.read_rejects(store, file), rejects[start : start + _READERS])


def _replaced(messages: pa.ChunkedArray, *rules: tuple[str, str]) -> pa.ChunkedArray:
    """Messages with words in the places of what patterns match."""
    import pyarrow.compute as pc  # noqa: PLC0415 - takes 0.1 s, and most roots that are looked at have few rejects

    for pattern, words in rules:
        messages = pc.replace_substring_regex(messages, pattern, words)
    return messages
