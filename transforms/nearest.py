"""What a name that there is none of was meant to be: the nearest of those that there are."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

_NEAR: Final = 0.5
_NEAR_COLUMN: Final = 0.6
"""Columns are called anything: what has half of the letters is another one."""

_SHOWN: Final = 40
"""Names that are listed: a table may have thousands of columns."""


def guess(name: str, known: Iterable[str]) -> str:
    """Returns how a refusal goes on: the nearest of the names that are known, or nothing where none is near.

    >>> guess("--rot", ["--root", "--images"]), guess("x", ["--root"])
    (', did you mean --root?', '')
    """
    near = _nearest(name, known, _NEAR)
    return "" if near is None else f", did you mean {near}?"


def no_column(column: str, columns: Sequence[str]) -> str:
    """Returns what is said of a column that a table does not have: the nearest, and those that it has.

    >>> no_column("imge", ["image", "name"])
    'has no column imge; did you mean image? it has image, name'
    """
    near = _nearest(column, columns, _NEAR_COLUMN)
    meant = "" if near is None else f" did you mean {near}?"
    shown = ", ".join(columns[:_SHOWN]) or "none"
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    named = column or "''"
    return f"has no column {named};{meant} it has {shown}{more}"


def _nearest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    names = list(dict.fromkeys(known))
    folded = {each.lower(): each for each in reversed(names)}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None
