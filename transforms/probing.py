"""Searches an opened faiss index: how many lists are probed, and how hard a coarse quantizer looks for them."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.vector_transforms import behind_transforms

_LEAST_EFFORT = 128
_QUERIES_AT_ONCE = 16
"""While all lists are probed: their order takes 12 bytes a list and query."""


def graph_effort(nprobe: int) -> int:
    """Returns the `efSearch` with which an HNSW coarse quantizer is asked for so many lists.

    A graph that looks at no more lists than it returns, as faiss has it look from 16 on, misses some that are near.
    """
    return max(_LEAST_EFFORT, 2 * nprobe)


def search_lists(
    index: Any,  # faiss is untyped
    queries: NDArray[np.float32],
    rows: int,
    nprobe: int,
    allowed: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Searches the `nprobe` nearest lists of each query; all of them, without exception, when there are no more.

    Args:
        index: an index with inverted lists, maybe behind vector transforms. Threads may share it.
        queries: float32 `(q, d)`.
        rows: results a query.
        nprobe: lists probed.
        allowed: a bit for each id that may be found; None: every id may.

    Returns:
        Distances float32 and ids int64, both `(q, rows)`, as faiss gives them: id -1 where there is none.
    """
    # Whatever faiss keeps a pointer to stays bound to a name until the search is over.
    inner = faiss.extract_index_ivf(index)
    quantizer = faiss.downcast_index(inner.quantizer)
    is_graph = isinstance(quantizer, faiss.IndexHNSW)
    selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)
    parameters = faiss.SearchParametersIVF(nprobe=min(nprobe, inner.nlist))
    if selector is not None:
        parameters.sel = selector
    if is_graph and nprobe >= inner.nlist:
        return _search_all(index, queries, rows, parameters)
    effort = faiss.SearchParametersHNSW(efSearch=graph_effort(nprobe)) if is_graph else None
    if effort is not None:
        parameters.quantizer_params = effort
    outer = parameters
    if isinstance(index, faiss.IndexPreTransform):
        outer = faiss.SearchParametersPreTransform(index_params=parameters)
    distances, ids = index.search(queries, rows, params=outer)
    del outer, effort, parameters, selector
    return distances, ids


def _search_all(
    index: Any, queries: NDArray[np.float32], rows: int, parameters: Any
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Searches every list: some nodes of a graph cannot be reached, so its centroids are asked instead."""
    inner = faiss.extract_index_ivf(index)
    centroids = faiss.downcast_index(inner.quantizer).storage
    known = behind_transforms(index, queries)
    distances = np.empty((len(queries), rows), np.float32)
    ids = np.empty((len(queries), rows), np.int64)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        asked, found, found_ids = np.ascontiguousarray(known[part]), distances[part], ids[part]
        nearness, lists = centroids.search(asked, inner.nlist)
        # The wrapper of faiss 1.15.1 takes no parameters here, so that the function behind it is called.
        arrays = [faiss.swig_ptr(array) for array in (lists, nearness, found, found_ids)]
        inner.search_preassigned_c(len(asked), faiss.swig_ptr(asked), rows, *arrays, False, parameters)
    return distances, ids
