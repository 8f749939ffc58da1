"""How widely the rows of each list are spread around its centroid, and in which directions: a sketch of low rank.

A centroid says where a list lies and not how far its rows reach. The rows of a list vary mostly along a few directions
of its own: those are kept, within axes that all lists share, so that a query's share of them costs some thousand
products a list and no row is read.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from transforms.errors import PixdexError
from transforms.records import FileReference, Metric
from transforms.storage import layout, whole_files
from transforms.storage.store import Store

MANY_LISTS: Final = 16_384
"""Of more lists fewer directions are kept of each: 1 kB a list in memory, where it is 4 kB of fewer."""

_SHAPES: Final = ((64, 16), (64, 8))
"""Axes that all lists share, and directions of each list: of up to so many lists, and of more."""

_AXES_ROWS: Final = 65_536
"""Rows that the shared axes are taken from, at least."""

Rows = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows in the space of the centroids: of each its list, int64 `(n,)`, and its vector, float32 `(n, d)`."""


@dataclass(frozen=True, eq=False)
class Spread:
    """What is known of the rows of every list. A score is a product, or less a squared distance: higher is nearer.

    Attributes:
        axes: float32 `(d, m)`, orthonormal, the same for all lists.
        factors: `(nlist, r, m)`: directions of a list, each as long as the standard deviation of its rows along it; of
            up to 16,384 lists float32, which is quicker, else float16.
        offsets: float32 `(nlist, r)`: what a direction has of the list's centroid; of products 0.
        rest: float32 `(nlist,)`, the mean variance of its rows along all other directions.
        centre: float32 `(nlist,)`: of products, how long the mean of its rows is along the centroid, as a share of it;
            of distances, their mean squared distance from it.
        noise: float32 `(nlist,)`: of distances, the variance of that squared distance; of products 0.
        rows: float32 `(nlist,)`, how many rows it has that searches are for.
    """

    axes: NDArray[np.float32]
    factors: NDArray[np.floating]
    offsets: NDArray[np.float32]
    rest: NDArray[np.float32]
    centre: NDArray[np.float32]
    noise: NDArray[np.float32]
    rows: NDArray[np.float32]

    @cached_property
    def _axes(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.axes.T)

    def along(self, queries: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the components of queries `(q, d)` along the directions of lists `(q, n)`, float32 `(q, n, r)`.

        By a function of faiss that has no threads: those of BLAS spin on between two scans, and on a machine that has
        other things to do, one waits for another.
        """
        queries = np.ascontiguousarray(queries)
        width, rank = len(self._axes), self.factors.shape[1]
        found = np.empty((*lists.shape, rank), np.float32)
        onto = np.empty(width, np.float32)
        for query, numbers, out in zip(queries, lists, found, strict=True):
            _products(onto, query, self._axes)
            _products(out, onto, self.factors[numbers].astype(np.float32, copy=False).reshape(-1, width))
        return found


def _products(out: NDArray[np.float32], vector: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
    """Writes the products of a vector `(m,)` with rows `(n, m)`, all contiguous, into an array of n."""
    faiss.fvec_inner_products_ny(*map(faiss.swig_ptr, (out, vector, rows)), rows.shape[1], rows.shape[0])


def make(centroids: NDArray[np.float32], metric: Metric, rows: NDArray[np.int64], sample: Iterable[Rows]) -> Spread:
    """Makes the sketch of a sample of rows; a list of which it holds none counts as its centroid, without a spread.

    Args:
        centroids: float32 `(nlist, d)`.
        metric: of the index; `ip` or `l2`.
        rows: int64 `(nlist,)`, how many rows each list has.
        sample: batches of rows, in the order of whatever; some dozens of a list tell its spread.

    Memory: of each row of the sample 128 bytes. Cost: a product of each row with 64 axes, and the eigenvectors of a
    matrix of 64 x 64 a list, half a millisecond each.
    """
    nlist, dim = centroids.shape
    axes_count, rank = _SHAPES[nlist > MANY_LISTS]
    axes_count = min(axes_count, dim)
    rank = min(rank, axes_count)
    figures = _Figures(centroids, metric)
    batches = iter(sample)
    first = list(_first(batches))
    axes = _axes(first, centroids, axes_count)
    lists, projected = [np.empty(0, np.int64)], [np.empty((0, axes_count), np.float16)]
    for numbers, vectors in itertools.chain(first, batches):
        lists.append(numbers)
        projected.append((figures.add(numbers, vectors) @ axes).astype(np.float16))
    factors, of_factors = _factors(np.concatenate(lists), np.concatenate(projected), nlist, rank)
    counts = np.maximum(figures.counts, 1)
    total = np.maximum(figures.squares / counts - figures.mean_squares, 0)
    rest = np.maximum(total - of_factors, 0) / max(1, dim - rank)
    offsets = np.zeros((nlist, rank), np.float32)
    if metric == "l2":
        offsets = -np.einsum("lrm,lm->lr", factors, centroids @ axes, optimize=True).astype(np.float32)
    return Spread(
        axes=np.ascontiguousarray(axes, np.float32),
        factors=_in_memory(factors.astype(np.float16)),
        offsets=offsets,
        rest=rest.astype(np.float32),
        centre=figures.centre.astype(np.float32),
        noise=figures.noise.astype(np.float32),
        rows=rows.astype(np.float32),
    )


class _Figures:
    """Sums over the rows of each list, which need no second look at them."""

    def __init__(self, centroids: NDArray[np.float32], metric: Metric) -> None:
        self._centroids, self._metric = centroids, metric
        nlist = len(centroids)
        self.counts, self.squares = np.zeros(nlist), np.zeros(nlist)
        self._along, self._fourth = np.zeros(nlist), np.zeros(nlist)
        self._norms = np.maximum(np.einsum("ij,ij->i", centroids, centroids, dtype=np.float64), 1e-30)

    def add(self, lists: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Counts rows; returns their residuals."""
        near = self._centroids[lists]
        residuals = vectors - near
        nlist = len(self.counts)
        squares = np.einsum("ij,ij->i", residuals, residuals, dtype=np.float64)
        self.counts += np.bincount(lists, minlength=nlist)
        self.squares += np.bincount(lists, squares, nlist)
        self._fourth += np.bincount(lists, squares * squares, nlist)
        self._along += np.bincount(lists, np.einsum("ij,ij->i", vectors, near, dtype=np.float64), nlist)
        return residuals

    @property
    def _shares(self) -> NDArray[np.float64]:
        """The mean of the rows along the centroid, as a share of it; 1 where there is none."""
        there = self.counts > 0
        return np.where(there, self._along / np.maximum(self.counts, 1) / self._norms, 1.0)

    @property
    def mean_squares(self) -> NDArray[np.float64]:
        """The part of the mean squared residual that is the mean's own."""
        return (self._shares - 1) ** 2 * self._norms if self._metric == "ip" else np.zeros(len(self.counts))

    @property
    def centre(self) -> NDArray[np.float64]:
        return self._shares if self._metric == "ip" else self.squares / np.maximum(self.counts, 1)

    @property
    def noise(self) -> NDArray[np.float64]:
        if self._metric == "ip":
            return np.zeros(len(self.counts))
        counts = np.maximum(self.counts, 1)
        return np.maximum(self._fourth / counts - (self.squares / counts) ** 2, 0)


def _first(batches: Iterator[Rows]) -> Iterator[Rows]:
    """The batches that the shared axes are taken from; the others are left where they are."""
    rows = 0
    while rows < _AXES_ROWS and (some := next(batches, None)) is not None:
        yield some
        rows += len(some[0])


def _axes(batches: Iterable[Rows], centroids: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The directions along which residuals vary most, float32 `(d, count)`."""
    dim = centroids.shape[1]
    scatter = np.zeros((dim, dim))
    for lists, vectors in batches:
        residuals = vectors - centroids[lists]
        scatter += residuals.T @ residuals
    return np.linalg.eigh(scatter)[1][:, ::-1][:, :count].astype(np.float32)


def _factors(
    lists: NDArray[np.int64], projected: NDArray[np.float16], nlist: int, rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The directions of each list, `(nlist, rank, m)`, and the variance along all of them, `(nlist,)`."""
    width = projected.shape[1]
    factors = np.zeros((nlist, rank, width), np.float32)
    order = np.argsort(lists, kind="stable")
    bounds = np.searchsorted(lists[order], np.arange(nlist + 1))
    with threadpool_limits(1):  # threads take longer to begin than matrices as small as these
        for number in range(nlist):
            mine = projected[order[bounds[number] : bounds[number + 1]]].astype(np.float32)
            if len(mine) > 1:
                longest = _principal(mine - mine.mean(axis=0), rank)
                factors[number, : len(longest)] = longest / np.float32(math.sqrt(len(mine)))
    return factors, np.einsum("lrm,lrm->l", factors, factors, dtype=np.float64)


def _principal(rows: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
    """The `rank` directions with the largest sums of squares of some rows, each as long as the root of its sum."""
    if len(rows) >= rows.shape[1]:
        sums, directions = np.linalg.eigh(rows.T @ rows)
        longest: NDArray[np.float32] = (directions[:, ::-1][:, :rank] * np.sqrt(np.maximum(sums[::-1][:rank], 0))).T
        return longest
    # Of fewer rows than components the smaller matrix tells the same: u'A is as long as the root of the sum.
    return np.asarray(np.linalg.eigh(rows @ rows.T)[1][:, ::-1][:, :rank].T @ rows, np.float32)


def save(store: Store, fingerprint: str, spread: Spread) -> FileReference:
    """Writes a sketch beside the trained index; equal ones have one name."""
    tensors = {name: getattr(spread, name) for name in Spread.__dataclass_fields__}
    tensors["factors"] = spread.factors.astype(np.float16)  # they were rounded when they were made
    return whole_files.write_tensors(store, layout.trained_folder(fingerprint), "spread", tensors)


def load(store: Store, file: FileReference, nlist: int, dim: int) -> Spread:
    """Reads a sketch back, as it was made.

    Args:
        store: the root.
        file: of a generation.
        nlist, dim: of its trained index, behind the transforms.

    Raises:
        PixdexError: the file is missing, is another than the reference speaks of, or is of another index.
    """
    wrong = f"{store.url}/{file.path} holds no spread of {nlist} lists of {dim} components: run pixdex tune anew"
    try:
        spread = Spread(**whole_files.read_tensors(store, file))
    except PixdexError as error:
        raise PixdexError(f"{error}; or run pixdex tune anew, or go without it: pixdex tune --off") from error
    except (LookupError, TypeError, ValueError) as error:
        raise PixdexError(f"{wrong} ({error})") from error
    rank, width = spread.factors.shape[1:] if spread.factors.ndim == 3 else (0, 0)
    shapes = ((dim, width), (nlist, rank, width), (nlist, rank), *((nlist,),) * 4)
    if shapes != tuple(getattr(spread, name).shape for name in Spread.__dataclass_fields__):
        raise PixdexError(wrong)
    return replace(spread, factors=_in_memory(spread.factors))


def _in_memory(factors: NDArray[np.float16]) -> NDArray[np.floating]:
    return factors if len(factors) > MANY_LISTS else factors.astype(np.float32)
