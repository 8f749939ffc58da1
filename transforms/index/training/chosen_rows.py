"""Rows that were chosen among vectors, and are copied in blocks: all at once they would take as much memory again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.vector_transforms import behind_transforms

_BLOCK_ROWS: Final = 4096
_HARDLY_MORE: Final = 1.05


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of `vectors`, float32 `(n, d)`: those with these `numbers`, int64 ascending; None: all of them."""

    vectors: NDArray[np.float32]
    numbers: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self.vectors if self.numbers is None else self.numbers)

    @property
    def dim(self) -> int:
        """Components of a row."""
        dim: int = self.vectors.shape[1]
        return dim

    def some(self, wanted: int, seed: int) -> Self:
        """Returns `wanted` of them, in their order, drawn by a seed; all where these are hardly more."""
        if len(self) <= _HARDLY_MORE * wanted:
            return self
        drawn = np.sort(np.random.default_rng(seed % (1 << 32)).choice(len(self), wanted, replace=False))
        return type(self)(self.vectors, drawn if self.numbers is None else self.numbers[drawn])

    def copied(self) -> NDArray[np.float32]:
        """Returns them as an array: `vectors` themselves where they are all."""
        return self.vectors if self.numbers is None else self.vectors[self.numbers]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yields them in order, 4,096 at a time."""
        for start in range(0, len(self), _BLOCK_ROWS):
            stop = start + _BLOCK_ROWS
            yield self.vectors[start:stop] if self.numbers is None else self.vectors[self.numbers[start:stop]]

    def behind(self, index: faiss.Index) -> NDArray[np.float32]:
        """Returns them behind the transforms of an index, float32 `(n, d')`; `vectors` themselves if it has none."""
        if not isinstance(index, faiss.IndexPreTransform):
            return self.copied()
        found, start = np.empty((len(self), faiss.extract_index_ivf(index).d), np.float32), 0
        for block in self.blocks():
            found[start : start + len(block)] = behind_transforms(index, block)
            start += len(block)
        return found

    def mean_square(self) -> float:
        """Returns the mean of their squared lengths; 0 where there is none."""
        total = sum(float(np.einsum("ij,ij->", block, block, dtype=np.float64)) for block in self.blocks())
        return total / max(len(self), 1)
