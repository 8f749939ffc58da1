"""Brings many byte ranges of a buffer into another order at memcpy speed: the inner loop of writes and merges."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_CHUNK: Final = 2 << 20  # small enough to stay in the CPU's cache between gather, checksum and write


def gather(buffer: NDArray[np.uint8], bounds: NDArray[np.int64], order: NDArray[np.int64]) -> Iterator[memoryview]:
    """Yields the segments `buffer[bounds[i]:bounds[i + 1]]`, for i in `order`, end to end in chunks of about 2 MiB.

    `buffer` uint8 (bytes,), `bounds` int64 (segments + 1,) ascending, `order` int64. No copy of the buffer is made:
    Arrow's `take` sees it as a binary array and does one memcpy a segment, whatever its size. A numpy gather by 8-byte
    words or a `writev` of (address, length) pairs runs at about half that speed, and numpy at a tenth where sizes are
    odd. A segment above the chunk size is yielded as it lies, uncopied.
    """
    segments = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(bounds) - 1, [None, pa.py_buffer(np.ascontiguousarray(bounds)), pa.py_buffer(buffer)]
    )
    ends = np.cumsum(bounds[order + 1] - bounds[order])
    done, first = 0, 0
    while first < len(order):
        stop = max(first + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        length = int(ends[stop - 1]) - done
        if stop == first + 1:
            start = int(bounds[order[first]])
            yield buffer.data[start : start + length]
        else:
            import pyarrow.compute as pc  # noqa: PLC0415 - a tenth of a second, for nothing where lists are long

            taken = pc.take(segments, pa.array(order[first:stop]), boundscheck=False)
            yield memoryview(taken.buffers()[2])[:length]
        done, first = done + length, stop
