"""Mapped memory that is about to be read: whether it is in memory, and asking for all of it at once where it is not."""

import ctypes
import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_SAMPLED: Final = 8
"""Places that are looked at, evenly spread over those that will be read."""

_WILL_NEED: Final = 3  # of <sys/mman.h>, the same on Linux and macOS


def is_resident(address: int) -> bool:
    """Tells whether the page of an address is in memory; of a file of somebody else the kernel says yes."""
    told = ctypes.c_ubyte()
    page = address - address % mmap.PAGESIZE
    return _mincore is not None and _mincore(page, 1, told) == 0 and bool(told.value & 1)


def sampled(count: int) -> list[int]:
    """Returns the places of a few of `count` things, evenly spread.

    >>> sampled(3), sampled(100)
    ([0, 1, 2], [0, 14, 28, 42, 56, 70, 84, 99])
    """
    return [int(place) for place in np.linspace(0, count - 1, min(_SAMPLED, count))]


def ask_ahead(stored: NDArray[Any], rows: NDArray[np.int64]) -> bool:
    """Has the system begin to read some rows of a mapped array `(n, d)`, unless the first and the last are in memory.

    Read one after the other, each row that is not there waits for the disk; asked for together, they come together.

    Args:
        stored: contiguous.
        rows: int64 `(m,)`, ascending.

    Returns:
        Whether any were asked for.

    Cost: some 10 to 40 microseconds, and a microsecond for each run of pages that is asked for.
    """
    base, size = stored.__array_interface__["data"][0], stored.strides[0]
    if _madvise is None or not len(rows) or all(is_resident(base + row * size) for row in rows[[0, -1]].tolist()):
        return False
    first = (base + rows * size) // mmap.PAGESIZE
    last = (base + (rows + 1) * size - 1) // mmap.PAGESIZE
    begins = np.flatnonzero(np.concatenate(([True], first[1:] > last[:-1] + 1)))
    ends = np.concatenate((begins[1:], [len(rows)])) - 1
    for start, stop in zip(first[begins].tolist(), last[ends].tolist(), strict=True):
        address, length = start * mmap.PAGESIZE, (stop - start + 1) * mmap.PAGESIZE
        _madvise(address, length, _WILL_NEED)
    return True


_library = ctypes.PyDLL(None)
"""Its functions keep the interpreter: they come back within microseconds, and to get it again may take longer."""


def _of_the_system(name: str, *arguments: Any) -> Any:
    """A function of the C library, which takes these; None: it has none of that name."""
    function = getattr(_library, name, None)
    if function is not None:
        function.argtypes = arguments
    return function


_mincore = _of_the_system("mincore", ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_ubyte))
_madvise = _of_the_system("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
