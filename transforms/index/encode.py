"""What a vector is in the index: its list and its code, the same in whatever company it comes.

Matrix products are numpy's, in slots of one shape: those of faiss's own library round a row by where it stands.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.index.assignment import FlatAssigner, padded
from transforms.index.scores.elsewhere import Products, doubtful
from transforms.index.vector_transforms import behind_transforms
from transforms.shards.vectors import BATCH_ROWS, VectorBatch

_HALF_INFINITY: Final = 0x7C00
"""The exponent of a float16 that is no number."""

Assign = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""Gives every vector, behind the transforms, its list."""

_DIRECT_COMPONENTS: Final = 16
"""faiss encodes sub-vectors of fewer components one by one, and of more in a matrix product of its own."""


def flat_assign(index: faiss.Index, products: Products | None = None) -> Assign:
    """Returns assignment to the nearest of all lists of a trained index; that of one list asks for no metric.

    `products` are those of another device.
    """
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))  # faiss's stubs know no members of it
    if inner.nlist == 1:
        return lambda vectors: np.zeros(len(vectors), np.int64)
    return FlatAssigner(centroids(inner), inner.metric_type == faiss.METRIC_INNER_PRODUCT, products).assign


def centroids(inner: Any) -> NDArray[np.float32]:
    """Returns the centroids of an IVF index, float32 `(nlist, d)`, as they lie in it: they live as long as it does."""
    quantizer: Any = faiss.downcast_index(inner.quantizer)
    flat = faiss.downcast_index(quantizer.storage) if isinstance(quantizer, faiss.IndexHNSW) else quantizer
    stored: NDArray[np.float32] = faiss.rev_swig_ptr(flat.get_xb(), inner.nlist * inner.d).reshape(inner.nlist, inner.d)
    return stored


@dataclass(frozen=True)
class Encoded:
    """Entries of lists: `ids` int64 `(n,)`, `list_nos` `(n,)` and `codes` uint8 `(n, code_size)`."""

    ids: NDArray[np.int64]
    list_nos: NDArray[np.integer]
    codes: NDArray[np.uint8]


def encode_batches(
    index: faiss.Index,
    batches: Iterable[VectorBatch],
    assign: Assign,
    batch_rows: int = BATCH_ROWS,
    products: Products | None = None,
) -> Encoded:
    """Returns what a trained index stores for the rows of some batches, in their order.

    Vector transform, nearest list, then the code that faiss would store in it. Every product has `batch_rows` rows,
    padded with zeros: in the transform these are a batch, in the code any consecutive ones of all that were given, so
    that behind a batch which lost rows a row's two places differ. With numpy's own BLAS a row's bytes depend on
    neither place where the processor has AVX-512, and by a last bit elsewhere. Several batches at a time are faster,
    because assignment groups their rows. `products` are those of another device, for the codes of product quantizers.

    Memory: the vectors of all of these batches behind the transforms, twice; before them, of one.

    Raises PixdexError with the id for a vector that is not finite.
    """
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))  # what it has depends on the key
    ids, parts = [np.empty(0, np.int64)], [np.empty((0, inner.d), np.float32)]
    for batch in batches:
        _check(batch, index.d)
        ids.append(batch.ids)
        parts.append(behind_transforms(index, padded(batch.vectors, batch_rows))[: len(batch.ids)])
    vectors = np.concatenate(parts)
    list_nos = assign(vectors)
    codes = np.empty((len(vectors), inner.code_size), np.uint8)
    for start in range(0, len(vectors), batch_rows):
        rows = slice(start, start + batch_rows)
        codes[rows] = _codes(inner, vectors[rows], list_nos[rows], batch_rows, products)
    return Encoded(np.concatenate(ids), list_nos, codes)


def _check(batch: VectorBatch, dim: int) -> None:
    vectors, ids = batch.vectors, batch.ids
    if vectors.dtype != np.float32 or vectors.shape != (len(ids), dim):
        shape = f"vectors {vectors.dtype} {vectors.shape} with {len(ids)} ids"
        raise ValueError(f"{shape}, for an index of dimension {dim}")
    # A sum is finite only if all its terms are; it may also run over, so the second look is the exact one.
    if not np.isfinite(np.einsum("ij->", vectors)):
        refused = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(refused):
            first = f"the vector with id {ids[refused[0]]} is not finite ({len(refused)} of {len(ids)} in its batch)"
            raise PixdexError(f"{first}: reject it before the add")


def _codes(
    inner: Any,
    vectors: NDArray[np.float32],
    lists: NDArray[np.int64],
    batch_rows: int,
    products: Products | None = None,
) -> NDArray[np.uint8]:
    """Codes uint8 `(n, code_size)` of rows behind the transforms."""
    if products and isinstance(inner, faiss.IndexIVFPQ):
        books, residuals = _codebooks(inner.pq), _residuals(inner, vectors, lists)
        numbers, margins = products.best_entries(books, residuals)
        codes = _packed(inner.pq, numbers)
        for first in range(0, len(again := doubtful(books, residuals, margins)), batch_rows):
            some = again[first : first + batch_rows]
            codes[some] = _codes(inner, vectors[some], lists[some], batch_rows)
        return codes
    if isinstance(inner, faiss.IndexIVFPQ) and inner.pq.dsub >= _DIRECT_COMPONENTS:
        return _product_codes(inner, padded(_residuals(inner, vectors, lists), batch_rows))[: len(vectors)]
    return _faiss_codes(inner, vectors, lists)


def _faiss_codes(inner: Any, vectors: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.uint8]:
    codes = np.zeros((len(vectors), inner.code_size), np.uint8)
    # The arrays have names that outlive the call: swig_ptr does not keep them alive.
    inner.encode_vectors(len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(lists), faiss.swig_ptr(codes), False)
    if isinstance(inner, faiss.IndexIVFScalarQuantizer) and inner.sq.qtype == faiss.ScalarQuantizer.QT_fp16:
        _check_halves(codes)
    return codes


def _check_halves(codes: NDArray[np.uint8]) -> None:
    if (codes.view(np.uint16) & np.uint16(_HALF_INFINITY) == _HALF_INFINITY).any():
        raise PixdexError(
            "a vector is too far from its centroid for SQfp16, which has numbers up to 65504: scale the vectors down, "
            "or take SQbf16 or SQ8, in a new root"
        )


def _residuals(inner: Any, vectors: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.float32]:
    return vectors - centroids(inner)[lists] if inner.by_residual else vectors


def _product_codes(inner: Any, residuals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Nearest entry of every codebook, packed as faiss does."""
    pq, books = inner.pq, _codebooks(inner.pq)
    halves = 0.5 * np.einsum("mkd,mkd->mk", books, books)
    numbers = np.empty((len(residuals), pq.M), np.int64)
    for part, book in enumerate(books):
        scores = residuals[:, part * pq.dsub : (part + 1) * pq.dsub] @ book.T
        scores -= halves[part]
        numbers[:, part] = scores.argmax(axis=1)
    return _packed(pq, numbers)


def _codebooks(pq: Any) -> NDArray[np.float32]:
    """float32 `(M, k, dsub)`."""
    books: NDArray[np.float32] = faiss.vector_to_array(pq.centroids).reshape(pq.M, pq.ksub, pq.dsub)
    return books


def _packed(pq: Any, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Packs the numbers of entries, int64 `(n, M)`, as faiss does."""
    if pq.nbits == 8:
        return numbers.astype(np.uint8)
    packed: NDArray[np.uint8] = faiss.pack_bitstrings(numbers.astype(np.int32), pq.nbits)
    return packed
