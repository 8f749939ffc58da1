"""Tables for a terminal: columns aligned by the cells that characters take, and cut to the width there is."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

_GAP: Final = "  "
_LEAST = 6
_ELLIPSIS = "…"
_JOINER = "\u200d"


@dataclass(frozen=True)
class Column:
    """A column: its heading, the side its cells stand on, and the end that is cut when there is too little room.

    Columns that must not be cut (`cut` None) are always whole.
    """

    heading: str
    align: Literal["left", "right"] = "left"
    cut: Literal["start", "end"] | None = None


def terminal_width() -> int | None:
    """Returns the columns of the terminal (or `COLUMNS`), None where output goes to a file, or there are none."""
    return shutil.get_terminal_size((0, 0)).columns or None


def render(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Returns headings and rows as lines of at most `width` cells (None: as long as they are).

    Of the columns that may be cut, the widest gives way first, down to 6 cells.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(cells_of(text) for text in texts) for texts in zip([c.heading for c in columns], *cells, strict=True)]
    while width is not None and sum(widths) + len(_GAP) * (len(columns) - 1) > width:
        wide = [place for place, column in enumerate(columns) if column.cut and widths[place] > _LEAST]
        if not wide:
            break
        widths[max(wide, key=widths.__getitem__)] -= 1
    lines = [[column.heading for column in columns], *cells]
    return "\n".join(
        _GAP.join(_fit(text, column, room) for text, column, room in zip(line, columns, widths, strict=True)).rstrip()
        for line in lines
    )


def plain(text: str) -> str:
    """Returns text on one line, without characters that would steer the terminal.

    >>> plain("a\\n\\x1b[31mb")
    'a [31mb'
    """
    return " ".join("".join(c if c.isprintable() or c == _JOINER else " " for c in text).split())


def cells_of(text: str) -> int:
    """Returns how many cells of a terminal a text takes.

    >>> cells_of("circle"), cells_of("동그라미"), cells_of("😀"), cells_of("❤️"), cells_of("👨\u200d👩\u200d👧")
    (6, 8, 2, 2, 2)
    """
    return sum(cells for _, cells in _clusters(text))


def _clusters(text: str) -> list[tuple[str, int]]:
    """The characters as a person sees them, each with all that combines with it, and the cells that each takes."""
    import wcwidth  # noqa: PLC0415 - a command that shows no table has no use for its data

    return [(cluster, max(0, wcwidth.wcswidth(cluster))) for cluster in wcwidth.iter_graphemes(text)]


def _fit(text: str, column: Column, room: int) -> str:
    if cells_of(text) > room:
        text = _shorten(text, room, from_start=column.cut == "start")
    padding = " " * (room - cells_of(text))
    return padding + text if column.align == "right" else text + padding


def _shorten(text: str, room: int, *, from_start: bool) -> str:
    """Cuts whole characters, with all that combines with them, until the rest and an ellipsis fit."""
    clusters = _clusters(text)
    kept: list[str] = []
    left = room - 1
    for cluster, count in reversed(clusters) if from_start else clusters:
        if count > left:
            break
        kept.append(cluster)
        left -= count
    return _ELLIPSIS + "".join(reversed(kept)) if from_start else "".join(kept) + _ELLIPSIS
