"""Gives memory that was freed back to the machine, where the C library would keep it for later."""

import ctypes
from typing import Final

_TRIM: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Of glibc; elsewhere freed memory goes back by itself."""


def give_back() -> None:
    """Gives back what is free: before much is taken at once, or after much was."""
    if _TRIM is not None:
        _TRIM(0)
