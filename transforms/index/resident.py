"""Lists of a mapped index that are about to be scanned: read ahead, unless they are in memory already.

Reading ahead touches every byte of them in 32 threads, which a disk needs and memory does not: of an index in the page
cache it takes longer than the scan.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.storage.mapped import is_resident, sampled


def read_ahead(lists: Any, probed: NDArray[np.int64]) -> None:  # faiss is untyped
    """Has the lists of some numbers read ahead, if they are mapped and one of a few is not in memory; -1 is none.

    Cost: some microseconds a list that is looked at.
    """
    mapped = faiss.downcast_InvertedLists(lists)
    if not isinstance(mapped, faiss.OnDiskInvertedLists):
        return
    numbers = np.unique(probed[probed >= 0])
    sample = [int(numbers[place]) for place in sampled(len(numbers))]
    if not all(is_resident(int(mapped.get_codes(number))) for number in sample if mapped.list_size(number)):
        mapped.prefetch_lists(faiss.swig_ptr(numbers), len(numbers))
