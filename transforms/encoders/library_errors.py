"""Errors of other people's code, said as a part of one of our own lines."""

import textwrap


def one_line(error: BaseException) -> str:
    """What a library's error says, however long and on however many lines, with its type before it."""
    return textwrap.shorten(f"{type(error).__name__}: {error}".removesuffix(": "), 200, placeholder=" …")
