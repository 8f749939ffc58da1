"""Texts of which nothing is left once they are cleaned: blanks, control characters, and HTML that stands for them.

Encoders clean texts before they read them, each in its own way; what is blank here is blank to a reader, too, and would
be embedded as nothing, near to everything else that says nothing.
"""

import html
import unicodedata
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

_MAY_BE_BLANK: Final = r"\A(?:[\s\pZ\p{Cc}\p{Cf}]|&(?:amp;)?#?[0-9A-Za-z]{1,31};?)*\z"
"""Of RE2: nothing but what cannot be seen, and references to characters."""

_UNSEEN: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
"""Categories of Unicode: control and format characters, and space of any kind."""


def as_null(cells: pa.Array) -> pa.Array:
    """Returns string cells with blank ones made null.

    >>> as_null(pa.array(["a", " ", "&nbsp;&#8203;", "&amp;nbsp;", "&lt;", "a&nbsp;b", None])).to_pylist()
    ['a', None, None, None, '&lt;', 'a&nbsp;b', None]
    """
    suspects = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(cells, _MAY_BE_BLANK), False))
    blank = [place for place in suspects.to_pylist() if _is_blank(cells[place].as_py())]
    if not blank:
        return cells
    mask = pc.is_in(pa.array(range(len(cells)), pa.int64()), pa.array(blank, pa.int64()))
    return pc.if_else(mask, pa.nulls(len(cells), pa.string()), cells)


def _is_blank(text: str) -> bool:
    shown = html.unescape(html.unescape(text))
    return all(unicodedata.category(character) in _UNSEEN for character in shown)
