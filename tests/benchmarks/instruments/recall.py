"""How well an index finds the exact neighbours, and at what cost: the codes that a search scans.

Two indexes of one key still cut the space differently, so that the same `nprobe` scans more codes of one than of the
other; recall is therefore compared at equal codes scanned as well.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import VectorFolder
from transforms.evaluation.recall import found_shares
from transforms.index.scan import graph_effort

NPROBES = (1, 2, 4, 8, 16, 32, 64, 128)
_BETWEEN = (3, 6, 12, 24, 48, 96, 192)
"""Measured too, so that what is interpolated is near."""

TOP, SHORTLIST = 10, 100

_QUERIES_AT_ONCE = 500

Positions = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Says at which position the vector of an id stands; -1 stays -1."""


@dataclass(frozen=True)
class Curve:
    """Recall of an index by `nprobe`.

    Attributes:
        nprobes: `(p,)`, ascending.
        codes: float64 `(p,)`, codes scanned a query, on average.
        at_10: float64 `(p, queries)`, share of the exact ten nearest among the first 10 results.
        at_100: float64 `(p, queries)`, share of the exact ten nearest among the first 100 results.
    """

    nprobes: tuple[int, ...]
    codes: NDArray[np.float64]
    at_10: NDArray[np.float64]
    at_100: NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """By how much one index finds more than another, in points (hundredths); `error` is one standard error."""

    points: float
    error: float


def exact_neighbours(
    blocks: Iterable[NDArray[np.float32]], queries: NDArray[np.float32], k: int, metric: str
) -> NDArray[np.int64]:
    """Returns the positions of the `k` nearest vectors of each query, int64 `(queries, k)`, nearest first.

    Cost: one product of all queries with all vectors, and a look at each of its numbers; memory of a block and the
    scores of 500 queries.
    """
    best = np.full((len(queries), k), -np.inf, np.float32)
    places = np.full((len(queries), k), -1, np.int64)
    first = 0
    for block in blocks:
        halves = 0.5 * np.einsum("ij,ij->i", block, block) if metric == "l2" else None
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            these = slice(start, start + _QUERIES_AT_ONCE)
            scores = queries[these] @ block.T
            if halves is not None:
                scores -= halves
            # After some blocks few vectors are nearer than the k-th so far: sorting all would take most of the time.
            for query in np.flatnonzero(scores.max(axis=1) > best[these, -1]) + start:
                row = scores[query - start]
                near = np.flatnonzero(row > best[query, -1])
                if len(near) > k:
                    near = near[np.argpartition(-row[near], k - 1)[:k]]
                both = np.concatenate([best[query], row[near]])
                order = np.argsort(-both, kind="stable")[:k]
                best[query] = both[order]
                places[query] = np.concatenate([places[query], near + first])[order]
        first += len(block)
    return places


def exact_of(folder: VectorFolder, cache: Path) -> NDArray[np.int64]:
    """Returns the exact ten nearest of a folder's queries, from the cache when they were found before."""
    file = cache / f"exact-{folder.digest}.npy"
    if not file.exists():
        say(f"exact search over {folder.rows:,} vectors")
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, exact_neighbours(folder.blocks(), folder.queries(), TOP, folder.metric))
    return np.asarray(np.load(file), np.int64)


def measure(
    index: Any,
    queries: NDArray[np.float32],
    exact: NDArray[np.int64],
    positions: Positions | None = None,
    nprobes: Sequence[int] = tuple(sorted((*NPROBES, *_BETWEEN))),
) -> Curve:
    """Searches with every `nprobe` that the index has lists for.

    Args:
        index: an opened faiss index with inverted lists.
        queries: float32 `(q, d)`.
        exact: positions of the exact ten nearest, int64 `(q, 10)`.
        positions: of ids; default: ids are positions.
        nprobes: lists probed.
    """
    inner = faiss.extract_index_ivf(index)
    probed = tuple(nprobe for nprobe in nprobes if nprobe <= inner.nlist)
    scanned, at_10, at_100 = [], [], []
    for nprobe in probed:
        inner.nprobe = nprobe
        _look_well(inner, nprobe)
        _, ids = index.search(queries, SHORTLIST)
        results = ids if positions is None else positions(ids)
        scanned.append(codes_scanned(index, queries, nprobe))
        at_10.append(found_shares(results, exact, exact.shape[1], among=TOP))
        at_100.append(found_shares(results, exact, exact.shape[1], among=results.shape[1]))
    return Curve(probed, np.array(scanned), np.array(at_10), np.array(at_100))


def codes_scanned(index: Any, queries: NDArray[np.float32], nprobe: int) -> float:
    """Returns how many codes a search of the `nprobe` nearest lists compares a query with, on average."""
    inner = faiss.extract_index_ivf(index)
    _look_well(inner, nprobe)
    _, lists = inner.quantizer.search(transformed(index, queries), nprobe)
    sizes = np.append(list_sizes(inner), 0)  # list -1, where an approximate quantizer found too few, is empty
    return float(sizes[lists].sum(axis=1).mean())


def list_sizes(inner: Any) -> NDArray[np.int64]:
    """Returns the entries of every list of an IVF index."""
    return np.array([inner.invlists.list_size(number) for number in range(inner.nlist)], np.int64)


def transformed(index: Any, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors as the lists know them: behind the vector transforms of an index."""
    if isinstance(index, faiss.IndexPreTransform):
        for number in range(index.chain.size()):
            vectors = index.chain.at(number).apply(vectors)
    return vectors


def at_codes(curve: Curve, shares: NDArray[np.float64], codes: float) -> NDArray[np.float64] | None:
    """Returns the shares, float64 `(queries,)`, that an index finds when it scans this many codes.

    Between two measured points it goes straight over the logarithm of the codes, for recall grows by about as much with
    every doubling. None below the first point and beyond the last: nothing was measured there.
    """
    if not curve.codes[0] <= codes <= curve.codes[-1]:
        return None
    above = int(np.searchsorted(curve.codes, codes))
    if above == 0:
        return np.asarray(shares[0], np.float64)
    low, high, here = np.log([curve.codes[above - 1], curve.codes[above], codes])
    weight = (here - low) / (high - low)
    return np.asarray((1 - weight) * shares[above - 1] + weight * shares[above], np.float64)


def difference(own: NDArray[np.float64], peer: NDArray[np.float64]) -> Difference:
    """Compares the shares that two indexes found of the same queries."""
    gap = 100 * (own - peer)
    error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else float("nan")
    return Difference(round(float(gap.mean()), 2), round(float(error), 2))


def _look_well(inner: Any, nprobe: int) -> None:
    """Makes a quantizer that is a graph look as hard as it does in our own searches."""
    quantizer = faiss.downcast_index(inner.quantizer)
    if isinstance(quantizer, faiss.IndexHNSW):
        quantizer.hnsw.efSearch = graph_effort(nprobe)
