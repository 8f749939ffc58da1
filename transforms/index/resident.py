"""Lists of a mapped index that are about to be scanned: read ahead, unless they are in memory already.

Reading ahead touches every byte of them in 32 threads, which a disk needs and memory does not: of an index in the page
cache it takes longer than the scan.
"""

import ctypes
import mmap
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

_SAMPLED: Final = 8
"""Lists that are looked at, evenly spread over those that will be scanned."""


def read_ahead(lists: Any, probed: NDArray[np.int64]) -> None:  # faiss is untyped
    """Has the lists of some numbers read ahead, if they are mapped and one of a few is not in memory; -1 is none.

    Cost: some microseconds a list that is looked at.
    """
    mapped = faiss.downcast_InvertedLists(lists)
    if not isinstance(mapped, faiss.OnDiskInvertedLists):
        return
    numbers = np.unique(probed[probed >= 0])
    sample = numbers[np.linspace(0, len(numbers) - 1, min(_SAMPLED, len(numbers)), dtype=np.int64)].tolist()
    if not all(_is_resident(int(mapped.get_codes(number))) for number in sample if mapped.list_size(number)):
        mapped.prefetch_lists(faiss.swig_ptr(numbers), len(numbers))


def _is_resident(address: int) -> bool:
    """Tells whether the page of an address is in memory; of a file of somebody else the kernel says yes."""
    page, told = ctypes.c_void_p(address - address % mmap.PAGESIZE), ctypes.c_ubyte()
    return _mincore is not None and _mincore(page, 1, ctypes.byref(told)) == 0 and bool(told.value & 1)


_mincore = getattr(ctypes.CDLL(None), "mincore", None)
