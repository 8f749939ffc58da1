"""Tables for a terminal: columns aligned by the cells that characters take, and cut to the width there is."""

import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

_GAP: Final = "  "
_LEAST = 6
_ELLIPSIS = "…"
_JOINER, _EMOJI_STYLE = "\u200d", "\ufe0f"


@dataclass(frozen=True)
class Column:
    """A column: its heading, the side its cells stand on, and the end that is cut when there is too little room.

    Columns that must not be cut (`cut` None) are always whole.
    """

    heading: str
    align: Literal["left", "right"] = "left"
    cut: Literal["start", "end"] | None = None


def terminal_width() -> int | None:
    """Returns the columns of the terminal (or `COLUMNS`), None where output goes to a file or a pipe."""
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
    return sum(_character_cells(text))


def _character_cells(text: str) -> list[int]:
    """The cells that each character adds: 0 for what combines with the one before, 2 for wide ones."""
    cells: list[int] = []
    base = 0  # cells of the character that others combine with
    joined = False
    for character in text:
        if joined or character == _JOINER or _combines(character):
            cells.append(0)
        elif character == _EMOJI_STYLE:
            cells.append(1 if base == 1 else 0)
        elif "\U0001f3fb" <= character <= "\U0001f3ff" and base == 2:
            cells.append(0)  # a skin tone colours the emoji before it
        else:
            base = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            cells.append(base)
        joined = character == _JOINER
    return cells


def _combines(character: str) -> bool:
    if character == _EMOJI_STYLE:
        return False
    # Vowels and finals of decomposed Hangul stand inside the cell of the initial.
    return unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff"


def _fit(text: str, column: Column, room: int) -> str:
    if cells_of(text) > room:
        text = _shorten(text, room, from_start=column.cut == "start")
    padding = " " * (room - cells_of(text))
    return padding + text if column.align == "right" else text + padding


def _shorten(text: str, room: int, *, from_start: bool) -> str:
    """Cuts whole characters, with all that combines with them, until the rest and an ellipsis fit."""
    cells = _character_cells(text)
    clusters: list[tuple[str, int]] = []
    for character, count in zip(text, cells, strict=True):
        if clusters and (count == 0 or character == _EMOJI_STYLE):
            before, taken = clusters.pop()
            clusters.append((before + character, taken + count))
        else:
            clusters.append((character, count))
    kept: list[str] = []
    left = room - 1
    for cluster, count in reversed(clusters) if from_start else clusters:
        if count > left:
            break
        kept.append(cluster)
        left -= count
    return _ELLIPSIS + "".join(reversed(kept)) if from_start else "".join(kept) + _ELLIPSIS
