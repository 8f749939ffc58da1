"""What a device other than this processor does for adding; who has one says how (`tasks.torch_products`).

A device finds the best and the second best. Wherever they are within rounding, this processor decides as it always
does, so that lists and codes are the same on any device.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from transforms.index.scores.scorer import Rows, Scorer

_ENTRY_ROUNDING = 1e-6
"""Bound of the error of half a squared distance in a subspace, by a product and by differences together, over the
square of both lengths together; ten times what is seen at 256 components."""


@dataclass(frozen=True)
class Best:
    """The best list of every vector, int64 `(n,)`; its score and that of the second best, float32 `(n,)`."""

    lists: NDArray[np.int64]
    best: NDArray[np.float32]
    second: NDArray[np.float32]


class Products(Protocol):
    """Products on a device, in float32 throughout: bounds of rounding count on that."""

    block_rows: int
    """Rows that look at all lists at once."""

    def best_lists(self, scorer: Scorer, vectors: NDArray[np.float32], looks: Iterable[tuple[Rows, int, int]]) -> Best:
        """Lets vectors, float32 `(n, d)`, look at lists (see `scorer.Looks`)."""

    def best_entries(
        self, books: NDArray[np.float32], vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Finds the entry of each codebook, float32 `(M, k, dsub)`, nearest to sub-vectors of float32 `(n, M·dsub)`.

        Returns their numbers, int64 `(n, M)`, and by how much half the squared distance of the next is more, float32.
        """


def doubtful(
    books: NDArray[np.float32], vectors: NDArray[np.float32], margins: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Returns the rows that float32 may give another entry in some subspace if it is computed in another way."""
    lengths = np.sqrt(np.einsum("nmd,nmd->nm", *[vectors.reshape(len(vectors), len(books), -1)] * 2))
    longest = np.sqrt(np.einsum("mkd,mkd->mk", books, books).max(axis=1))
    close = margins <= 2 * _ENTRY_ROUNDING * (lengths + longest) ** 2
    return np.flatnonzero(close.any(axis=1))
