"""What lies where a source points and is not taken, counted by what it is: no reject, for nobody asked for it.

A kind is the ending of a file in lower case (`heic`, `svg`), or one of the words below.
"""

import re
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

KINDS_KEPT: Final = 40
"""Kinds that are told apart; the rarest of more are `OTHER` together."""

OTHER: Final = "other"
NO_ENDING: Final = "no ending"
HIDDEN: Final = "hidden"
HIDDEN_FOLDER: Final = "hidden folder"
FOLDER: Final = "folder"
LINKED_FOLDER: Final = "link to a folder"
NAMELESS_FOLDER: Final = "folder without a name"
ELSEWHERE: Final = "listed elsewhere"
"""What the listing of one folder says of another: its own, one above, or a name without end."""

_ENDING: Final = re.compile(r"[^\W_]{1,8}")
_SPECIAL: Final = (
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


@dataclass
class Tally:
    """What was met while pictures were listed.

    Attributes:
        left_out: how many of each kind were not taken.
        named: pictures whose names `key_pattern` matches.
        unnamed: pictures whose names it does not match; their columns are empty.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    named: int = 0
    unnamed: int = 0


def kind_of_file(path: str) -> str:
    """Returns the kind of a file that is not taken, by its name.

    >>> [kind_of_file(path) for path in ("a/b.HEIC", "a/raw", "a/.DS_Store", "a/x.", "a/b.a-very-long-ending")]
    ['heic', 'no ending', 'hidden', 'no ending', 'other']
    """
    name = path.rpartition("/")[2]
    if name.startswith("."):
        return HIDDEN
    ending = PurePosixPath(name).suffix.lower().removeprefix(".")
    if not ending:
        return NO_ENDING
    return ending if _ENDING.fullmatch(ending) else OTHER


def kind_of_special(entry: Mapping[str, Any]) -> str:
    """Returns the kind of what is neither file nor folder, by what a listing says of it."""
    mode = entry.get("mode") or 0
    return next((kind for is_kind, kind in _SPECIAL if is_kind(mode)), OTHER)


def most(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the commonest kinds, by name, and the others together.

    >>> most({"svg": 2, "heic": 3})
    {'heic': 3, 'svg': 2}
    """
    common = sorted(counts, key=lambda kind: (-counts[kind], kind))
    kept = {kind: counts[kind] for kind in common[:KINDS_KEPT]}
    rest = sum(counts[kind] for kind in common[KINDS_KEPT:])
    if rest:
        kept[OTHER] = kept.get(OTHER, 0) + rest
    return dict(sorted(kept.items()))
