"""How widely the rows of each list are spread, of a sample of the rows that queries look for."""

from collections.abc import Iterator
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.adaptive.spread import Rows, Spread, make
from transforms.index.vector_transforms import behind_transforms
from transforms.index.wanted_lists import lists_of_rows, wanted_rows
from transforms.records import Modality
from transforms.search.open_index import OpenIndex
from transforms.search.searcher import Searcher
from transforms.shards.vectors import BATCH_ROWS

SAMPLED: Final = 1 << 20
"""Rows, at most: 64 a list of 16,384."""


def spread_of(searcher: Searcher, modality: Modality | None, seed: int) -> Spread | None:
    """Makes the spread of the lists of a generation, of its rows of a kind; None: its distances are of another metric.

    Args:
        searcher: the generation, with its index.
        modality: of the rows; None: all.
        seed: of the sample.

    Cost: the ids of all lists are read, and up to 1,048,576 vectors. Memory: 300 MB for these.
    """
    metric, index = searcher.generation.trained.metric, searcher.index
    if metric == "l1" or not isinstance(index, OpenIndex):
        return None
    wanted = searcher.rows_of(modality)
    rows, _ = wanted_rows(index.scanned, wanted.bits)
    ids = wanted.draw(SAMPLED, seed)
    lists = lists_of_rows(index.scanned, ids)
    there = lists >= 0
    return make(_centroids(index.merged), metric, rows, _batches(searcher, index.merged, ids[there], lists[there]))


def _centroids(merged: Any) -> NDArray[np.float32]:
    quantizer = faiss.downcast_index(faiss.extract_index_ivf(merged).quantizer)
    flat = faiss.downcast_index(quantizer.storage) if isinstance(quantizer, faiss.IndexHNSW) else quantizer
    centroids: NDArray[np.float32] = flat.reconstruct_n(0, flat.ntotal)
    return centroids


def _batches(searcher: Searcher, merged: Any, ids: NDArray[np.int64], lists: NDArray[np.int64]) -> Iterator[Rows]:
    for start in range(0, len(ids), BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        vectors = searcher.checked(searcher.stored.all(ids[rows]))
        yield lists[rows], behind_transforms(merged, vectors)
