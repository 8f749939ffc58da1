"""How long the lists of an index are: of the merged one, of what was added since, and of both together."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.generations.manifest import Generation
from transforms.index.training.passes import imbalance
from transforms.storage.store import Store
from transforms.upkeep.listed_ids import list_sizes

_BINS: Final = 24
_LARGEST: Final = 5


@dataclass(frozen=True)
class Histogram:
    """How many lists have how many codes.

    Attributes:
        edges: of the bins, one more than these, in codes; a bin has its lower edge, and not its upper one.
        counts: lists of each bin; those beyond the last edge are in the last bin.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, sizes: NDArray[np.int64]) -> "Histogram":
        """Counts sizes in bins of one width, up to the one that 99 of 100 lists have at most."""
        top = int(np.quantile(sizes, 0.99)) + 1 if len(sizes) else 1
        step = max(1, -(-top // _BINS))
        bins = -(-top // step)
        counts = np.bincount(np.minimum(sizes // step, bins - 1), minlength=bins)
        return cls(tuple(step * number for number in range(bins + 1)), tuple(counts.tolist()))


@dataclass(frozen=True)
class ListFigures:
    """Figures of the lists of one index.

    Attributes:
        codes: in all of them.
        imbalance: faiss's factor; 1 when all lists are alike.
        empty: lists without a code.
        mean, median, most: codes of a list.
        largest: numbers and codes of the longest ones.
    """

    codes: int
    lists: int
    imbalance: float
    empty: int
    mean: float
    median: float
    most: int
    largest: tuple[tuple[int, int], ...]
    histogram: Histogram

    @classmethod
    def of(cls, sizes: NDArray[np.int64]) -> "ListFigures":
        """Takes how many codes each list has, int64 `(nlist,)`."""
        order = np.lexsort((np.arange(len(sizes)), -sizes))[:_LARGEST]
        return cls(
            codes=int(sizes.sum()),
            lists=len(sizes),
            imbalance=round(imbalance(sizes), 4),
            empty=int((sizes == 0).sum()),
            mean=round(float(sizes.mean()), 1),
            median=float(np.median(sizes)),
            most=int(sizes.max()),
            largest=tuple((int(number), int(sizes[number])) for number in order if sizes[number]),
            histogram=Histogram.of(sizes),
        )


@dataclass(frozen=True)
class Lists:
    """The lists that a search scans: of the merged index, of the deltas (None: there are none), and together."""

    merged: ListFigures
    deltas: ListFigures | None
    both: ListFigures


def lists_of(store: Store, generation: Generation) -> Lists:
    """Returns the figures of a generation's lists. Cost: as of `list_sizes`; 100 bytes of memory a list."""
    merged, added = list_sizes(store, generation)
    deltas = ListFigures.of(added) if added.any() else None
    return Lists(ListFigures.of(merged), deltas, ListFigures.of(merged + added))
