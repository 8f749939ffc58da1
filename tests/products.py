"""Whether a row's product with a matrix has the same last bits wherever the row stands."""

import functools

import numpy as np


@functools.cache
def round_by_place() -> bool:
    """Tells whether numpy's products round a row by its place among the others, in a slot of one shape.

    OpenBLAS's kernels for processors without AVX-512 do: what is at the edge of a tile is summed in another order. The
    places of a plan are fixed, so that a retry makes the same bytes there too; but rows that come bundled otherwise
    differ in last bits.
    """
    rng = np.random.default_rng(0)
    rows, matrix = rng.random((1024, 64), np.float32), rng.random((96, 64), np.float32)
    return not np.array_equal(np.roll(np.roll(rows, 5, axis=0) @ matrix.T, -5, axis=0), rows @ matrix.T)
