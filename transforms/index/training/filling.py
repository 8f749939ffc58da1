"""Evens lists out: those that hold many rows are split, and give a part to lists that a pass left without any, or few.

A list has no row where its cell has fewer that differ than it was given centroids, where its centroid is a copy of
another's (of equal ones the lower gets the rows), or by chance. A search would probe it for nothing; and a list that
holds several times its share costs every search that probes it as much as several.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transforms.index.training.clustering import nearest, on_sphere, share_out
from transforms.index.training.copies import content_hashes
from transforms.index.training.passes import Moved

_EPSILON: Final = 1 / 1024
"""By how much the centroids of a list that is split differ, each component relative to itself (faiss `Clustering`)."""

_LOOKS: Final = 3
_ROWS_A_LIST: Final = 4
"""Rows that tell whether a list is empty, for each list."""

_LARGE: Final = 1.75
"""A list is split in as many parts as it has so many times its share of the rows.

What it costs to have lists alike: of 300,000 clustered vectors in 4,096 lists the imbalance was 1.99 with none divided,
1.62 with 1.9 and 1.49 with 1.6, and the codes for a coverage of .95 were 886, 882 and 934, for .98 1,679, 1,699 and
1,804. Clusters that are alike inside are cut where their neighbours lie on both sides.
"""

_SMALL: Final = 0.3
"""Lists with less than so much of a share make room for parts."""

_SHARE_THAT_TELLS: Final = 10
"""Rows a list, on average, from which on a list is seldom large by chance."""

_FAR: Final = 8
"""Distance of a list that nothing can be in, as a multiple of that of the farthest centroid from their mean."""

_OPPOSITE: Final = 1e-3
"""Length of one, for inner products, against the direction of all others."""


def fill(moved: Moved, bounds: NDArray[np.int64], *, copies: bool, spherical: bool) -> tuple[Moved, NDArray[np.int64]]:
    """Fills the lists that have no rows, where there are copies among the rows, or centroids are equal.

    The lists with the most rows that differ are split, in proportion to these; their parts take the places of the empty
    ones, in the cell of the list that they came from. Rows that differ can be too few: then lists are left, and are put
    out of the way of every search.

    Args:
        moved: what a pass made.
        bounds: int64 `(cells + 1,)`: cell c has the lists `bounds[c]:bounds[c + 1]`.
        copies: whether rows are equal. Of others a list is empty by chance only, and stays as it is.
        spherical: whether centroids have length one.

    Returns:
        The lists anew, cell by cell, and the bounds of the cells.
    """
    nlist = len(moved.centroids)
    _, places, same = np.unique(content_hashes(moved.centroids), return_index=True, return_inverse=True)
    if not moved.counts.any() or (len(places) == nlist and (not copies or moved.counts.all())):
        return moved, bounds
    centroids = moved.centroids.copy()
    counts, distinct = (np.zeros(nlist, np.int64) for _ in range(2))
    np.add.at(counts, places[same], moved.counts)
    np.add.at(distinct, places[same], moved.distinct)
    used = counts > 0
    cell = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    free = np.flatnonzero(~used)
    # A centroid at zero has no sides.
    rows = np.where(used, np.where(np.any(centroids != 0, axis=1), np.maximum(distinct, 1), 1), 0)
    parts = np.where(used, share_out(rows, min(nlist, int(rows.sum()))), 0)
    lists = replace(moved, centroids=centroids, counts=counts, distinct=distinct)
    free = free[_give_parts(lists, cell, parts, free, spherical=spherical) :]
    centroids[free] = _out_of_the_way(centroids[used], len(free), spherical=spherical)
    counts[free] = distinct[free] = 0
    return _by_cell(lists, cell, len(bounds) - 1)


def divide(moved: Moved, bounds: NDArray[np.int64], *, spherical: bool) -> tuple[Moved, NDArray[np.int64]]:
    """Splits lists that hold several times their share of rows that differ, in the places of the smallest lists.

    What the smallest had goes to the lists beside them in the next pass, which there must be: it also tells how many
    rows the parts have. Of few rows a list, whose numbers say little, and of few lists nothing is changed.

    Args:
        moved: what a pass made.
        bounds: int64 `(cells + 1,)`: cell c has the lists `bounds[c]:bounds[c + 1]`.
        spherical: whether centroids have length one.

    Returns:
        The lists anew, cell by cell, and the bounds of the cells.
    """
    rows, share = moved.distinct, moved.distinct.mean()
    parts = np.where(np.any(moved.centroids != 0, axis=1), np.maximum(rows / (_LARGE * share or 1), 1), 1).astype(int)
    smallest = np.argsort(rows, kind="stable")
    smallest = smallest[: np.count_nonzero(rows <= _SMALL * share)]
    if share < _SHARE_THAT_TELLS or not len(smallest) or not (parts > 1).any():
        return moved, bounds
    while (parts - 1).sum() > len(smallest):
        parts[parts.argmax()] -= 1
    free = smallest[: (parts - 1).sum()]
    lists = replace(moved, centroids=moved.centroids.copy(), counts=moved.counts.copy(), distinct=moved.distinct.copy())
    cell = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    _give_parts(lists, cell, parts, free, spherical=spherical)
    return _by_cell(lists, cell, len(bounds) - 1)


def settle(centroids: NDArray[np.float32], rows: NDArray[np.float32], *, spherical: bool) -> NDArray[np.float32]:
    """Fills the lists that rows, float32 `(n, d)` and all different, leave empty when all centroids are looked at.

    Returns the centroids, float32 `(nlist, d)`, in another order; uncopied where the rows are too few to tell. Cost:
    n·nlist distances, a few times at most.
    """
    nlist = len(centroids)
    bounds = np.array([0, nlist])
    for _ in range(_LOOKS if len(rows) >= _ROWS_A_LIST * nlist else 0):
        counts = np.bincount(nearest(rows, centroids, spherical=spherical), minlength=nlist)
        if (counts > 0).all():
            break
        centroids = fill(Moved(centroids, counts, 0.0, counts), bounds, copies=True, spherical=spherical)[0].centroids
    return centroids


def _give_parts(
    lists: Moved, cell: NDArray[np.int64], parts: NDArray[np.int64], free: NDArray[np.int64], *, spherical: bool
) -> int:
    """Splits each list in so many parts, of which all but one take `free` places, in its cell, and a share of its rows.

    Changes `lists` and `cell` in place, and returns how many places were taken.
    """
    taken = 0
    for number in np.flatnonzero(parts > 1).tolist():
        places = np.append(number, free[taken : taken + parts[number] - 1])
        taken += len(places) - 1
        lists.centroids[places] = on_sphere(_split(lists.centroids[number], len(places)), spherical)
        cell[places] = cell[number]
        for values in (lists.counts, lists.distinct):
            values[places] = np.diff(np.linspace(0, values[number], len(places) + 1).astype(np.int64))
    return taken


def _by_cell(moved: Moved, cell: NDArray[np.int64], cells: int) -> tuple[Moved, NDArray[np.int64]]:
    """Orders lists by their cell, int64 `(nlist,)`, and returns the bounds of the cells, too."""
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=cells))
    lists = replace(moved, centroids=moved.centroids[order], counts=moved.counts[order], distinct=moved.distinct[order])
    return lists, np.append(0, ends)


def _split(centroid: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
    """Moves a centroid, float32 `(d,)`, to as many sides: float32 `(parts, d)`, the signs are those of Walsh functions.

    Rows about the centroid then go to that side on which they are.
    """
    dim = len(centroid)
    number = np.arange(parts)
    sides = 2 * max(dim - 1, 1)
    function = 1 + (number % sides) // 2
    odd = np.bitwise_count(function[:, None] & np.arange(dim)) % 2 != number[:, None] % 2
    step = (1 + number // sides) * _EPSILON
    factors = 1 + np.where(odd, -step[:, None], step[:, None])
    return np.asarray(centroid * factors, np.float32)


def _out_of_the_way(centroids: NDArray[np.float32], count: int, *, spherical: bool) -> NDArray[np.float32]:
    """Returns so many centroids, float32 `(count, d)`, that a query ranks behind those that it is near to."""
    dim = centroids.shape[1]
    mean = centroids.mean(axis=0, dtype=np.float64)
    apart = 1 + np.arange(count)[:, None] / max(count, 1)
    aside = np.full(dim, dim**-0.5)
    if spherical:
        length = float(np.linalg.norm(mean))
        return np.asarray(-_OPPOSITE * apart * (mean / length if length else aside), np.float32)
    radius = float(np.sqrt(((centroids - mean) ** 2).sum(axis=1).max()))
    reach = _FAR * (radius or float(np.linalg.norm(mean)) or 1.0)
    return np.asarray(mean + reach * apart * aside, np.float32)
