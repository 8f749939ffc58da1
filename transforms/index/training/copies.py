"""Copies: rows of the sample that are equal, as those of a crawl's "no picture" tile are, or as good as equal.

Lists are for rows that differ. So of equal rows one stands for all: only it goes to a cell, is clustered, and counts
when centroids are shared out; passes over all lists give it the weight of the others, so that its list is where these
lie. Which rows are equal is seen in the pilot, which one worker holds: a row that is rare there does no harm elsewhere.

Rounded otherwise, as by another batch or in float16, equal rows differ in their last bits. Where as many rows as a list
has are within a few thousandths of how far vectors lie from their mean, they are a *crowd*, and taken for equal: their
projections onto some random directions, cut into steps, are the same (Datar, Immorlica, Indyk, Mirrokni, SCG 2004).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from transforms.index.training.chosen_rows import ChosenRows

CROWD_ROWS: Final = 16
"""Rows that are a crowd, at least; more where a list has more."""

_DIRECTIONS: Final = 8
"""Two rows that a whole step lies between are hardly ever on the same step in all of these."""

_STEPS: Final = 128
"""Steps in the root mean square of distances from the mean. Noise of a thousandth of that seldom crosses an edge."""

_GRAIN: Final = 1 << 16
"""Parts of that size which components are rounded to: sums of whole numbers are the same in any order."""

_LEAST_COMPONENTS: Final = 4
"""In fewer, vectors that differ lie as close as those of a crowd."""

_HASHED_AT_ONCE: Final = 512
"""So few that what is computed of them stays in a cache, and takes next to no memory that is new."""

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Copies:
    """Contents of which the pilot has several rows.

    Attributes:
        hashes: uint64 `(c,)`, ascending: what names each.
        ids: int64 `(c,)`, the row that stands for it: the lowest id.
        rows: int64 `(c,)`, how many rows of the sample it stands for, itself among them. Where the pilot is only part
            of the sample, as many as there should be.
        crowds: uint64 `(k,)`, ascending: those of the hashes that name crowds.
        scale: float64 `(1,)`, how far vectors are from their mean: by it crowds are found.
    """

    hashes: Hashes
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    crowds: Hashes
    scale: NDArray[np.float64]

    @classmethod
    def none(cls) -> Self:
        """No row is equal to another."""
        numbers, hashes = np.empty(0, np.int64), np.empty(0, np.uint64)
        return cls(hashes, numbers, numbers, hashes, np.zeros(1))

    @classmethod
    def found(cls, ids: NDArray[np.int64], vectors: NDArray[np.float32], lists: int = 1, part: float = 1) -> Self:
        """Finds them among the rows of the pilot, `ids` int64 `(n,)` ascending and `vectors` float32 `(n, d)`.

        Args:
            ids, vectors: the rows.
            lists: that are to be trained.
            part: the pilot's part of the sample, 0 to 1.

        Cost: 0.5 µs a row and 5 ns a component.
        """
        scale = _scale(vectors)
        crowds = np.empty(0, np.uint64)
        if scale and vectors.shape[1] >= _LEAST_COMPONENTS:
            steps, counts = np.unique(_step_hashes(vectors, scale), return_counts=True)
            crowds = steps[counts >= max(CROWD_ROWS, len(vectors) // lists)]
        names = _names(vectors, crowds, scale)
        hashes, firsts, counts = np.unique(names, return_index=True, return_counts=True)
        several = counts > 1
        rows = np.maximum(np.rint(counts[several] / part), 2).astype(np.int64)
        return cls(hashes[several], ids[firsts[several]].astype(np.int64), rows, crowds, np.array([scale]))

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Takes what `tensors` returned; without any there are none."""
        if "copy_hashes" not in tensors:
            return cls.none()
        return cls(*(tensors[f"copy_{name}"] for name in ("hashes", "ids", "rows", "crowds", "scale")))

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """As arrays; none where there are no copies."""
        if not len(self):
            return {}
        return {f"copy_{name}": getattr(self, name) for name in ("hashes", "ids", "rows", "crowds", "scale")}

    def __len__(self) -> int:
        """How many contents have several rows."""
        return len(self.hashes)

    def are_distinct(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tells which rows no other row stands for: bool `(n,)`.

        `ids` int64 `(n,)`, and `vectors` float32 `(n, d)` as the pilot had them.
        """
        if not len(self):
            return np.ones(len(ids), np.bool_)
        names = _names(vectors, self.crowds, float(self.scale[0]))
        place = _places(self.hashes, names)
        distinct: NDArray[np.bool_] = (self.hashes[place] != names) | (self.ids[place] == ids)
        return distinct

    def first_of_each(self, vectors: NDArray[np.float32]) -> ChosenRows:
        """Returns the rows of vectors, float32 `(n, d)`, of equal ones the first: all where there are no copies."""
        if not len(self):
            return ChosenRows(vectors)
        names = _names(vectors, self.crowds, float(self.scale[0]))
        return ChosenRows(vectors, np.sort(np.unique(names, return_index=True)[1]))

    def weights(self, ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Returns for how many rows of the sample each row stands, int64 `(n,)`; None where there are no copies."""
        if not len(self):
            return None
        order = np.argsort(self.ids)
        ascending = self.ids[order]
        place = _places(ascending, ids)
        return np.where(ascending[place] == ids, self.rows[order][place], 1)


def content_hashes(vectors: NDArray[np.float32]) -> Hashes:
    """Returns a hash of every vector of float32 `(n, d)`, uint64 `(n,)`: equal vectors have equal ones (xxh3)."""
    hashes = np.empty(len(vectors), np.uint64)
    for start in range(0, len(vectors), _HASHED_AT_ONCE):
        some = vectors[start : start + _HASHED_AT_ONCE] + np.float32(0)  # makes a zero of a negative zero
        hashes[start : start + len(some)] = [xxhash.xxh3_64_intdigest(row) for row in some]
    return hashes


def _names(vectors: NDArray[np.float32], crowds: Hashes, scale: float) -> Hashes:
    """What names the content of every vector: the crowd that it is in, or its own hash."""
    names = content_hashes(vectors)
    if len(crowds):
        steps = _step_hashes(vectors, scale)
        crowded = crowds[_places(crowds, steps)] == steps
        names[crowded] = steps[crowded]
    return names


def _step_hashes(vectors: NDArray[np.float32], scale: float) -> Hashes:
    """A hash of the steps that the projections of every vector are on."""
    rng = np.random.default_rng(vectors.shape[1])
    directions = 2.0 * rng.integers(0, 2, (vectors.shape[1], _DIRECTIONS)) - 1
    width = _GRAIN // _STEPS
    edges = rng.integers(0, width, _DIRECTIONS).astype(np.float64)
    hashes = np.empty(len(vectors), np.uint64)
    for start in range(0, len(vectors), _HASHED_AT_ONCE):
        some = vectors[start : start + _HASHED_AT_ONCE]
        whole = some.astype(np.float64)
        whole *= _GRAIN / scale
        np.rint(whole, out=whole)
        steps = np.floor((whole @ directions + edges) / width) + 0.0
        hashes[start : start + len(some)] = [xxhash.xxh3_64_intdigest(row) for row in steps]
    return hashes


def _scale(vectors: NDArray[np.float32]) -> float:
    """The root of the mean squared distance of vectors from their mean; 0 where they are all alike, or none."""
    if not len(vectors):
        return 0.0
    mean, total = vectors.mean(axis=0, dtype=np.float64), 0.0
    for start in range(0, len(vectors), _HASHED_AT_ONCE):
        apart = vectors[start : start + _HASHED_AT_ONCE] - mean
        total += float(np.vdot(apart, apart))
    return float(np.sqrt(total / len(vectors)))


def _places(ascending: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.int64]:
    """Where in ascending numbers, of which there are some, each of others is, if it is there."""
    return np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
