"""How many batches of vectors `transforms.stages.add` works on at once: its memory is counted by the same numbers."""

from typing import Final

from transforms.shards.vectors import BATCH_ROWS

_BATCHES: Final = 8
_BYTES: Final = 64 << 20
"""So many batches, of at most so many bytes, are assigned at once by all threads: they fill the products of cells."""

READ_AHEAD: Final = 3
"""Batches that a reader has beside (see `transforms.shards.vectors.read_batches`)."""


def batches_a_thread(dim: int, threads: int) -> int:
    """Returns how many batches of vectors of `dim` components a thread takes at once, so that all have a share.

    >>> batches_a_thread(512, 4), batches_a_thread(512, 1), batches_a_thread(1 << 16, 4)
    (2, 8, 1)
    """
    return max(1, min(_BATCHES, _BYTES // (4 * BATCH_ROWS * dim)) // threads)


def batches_in_flight(threads: int) -> int:
    """Returns how many such shares there are at a time: one a thread, one that waits, and one that is being read."""
    return threads + 2
