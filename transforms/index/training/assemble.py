"""Trains an index on the stored sample and writes it down: `index.faiss` without vectors, and what describes it.

The structure is faiss's; what costs the time is trained here: the rotation in closed form, the lists in two levels with
passes over all of them, the codebooks on a bounded number of residuals and without polysemous training.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.errors import PixdexError
from transforms.index.assignment import TwoLevelAssigner
from transforms.index.index_key import IndexKey
from transforms.index.threads import each_with_one_thread, limited, limited_here
from transforms.index.trained import AssignmentAudit
from transforms.index.training.audit import audit
from transforms.index.training.chosen_rows import ChosenRows
from transforms.index.training.clustering import kmeans, nearest
from transforms.index.training.codebooks import train_codebooks
from transforms.index.training.copies import Copies
from transforms.index.training.figures import (
    CODE_ROWS,
    GRAPH_EFFORT,
    HEAD_COMPONENTS,
    HEAD_ROWS,
    LISTS_ASSIGNED_FLAT,
    PILOT_PER_PARENT,
    ROTATION_ROWS,
    codebook_rows,
    parents_of,
)
from transforms.index.training.filling import settle
from transforms.index.training.rotation import principal_directions, principal_rotation
from transforms.index.training.routing import Router
from transforms.index.training.scalar_ranges import train_ranges
from transforms.index.vector_transforms import behind_transforms

_CELLS_FOR_RESIDUALS = 4
_LENGTH_ROWS = 4096
_FEW_PARENTS = 128
"""Clusters up to which k-means has one thread: several would mostly wait for each other."""

_ABOUT_ONE = 0.01
"""By how much normalised vectors differ from length one, at the most: as float16 rounds them."""

_LEAST_RABITQ = 1e-6
"""Squared norms that RaBitQ can do with: below 1.2e-7 it takes them for zero (faiss `RaBitQUtils`)."""

_EMPTY_DIRECTION = float(np.finfo(np.float32).eps)
"""Variance that is rounding alone, relative to the largest."""

_FEW_BITS = {faiss.ScalarQuantizer.QT_4bit: 4, faiss.ScalarQuantizer.QT_6bit: 6}
"""Scalar quantizers that cannot afford steps that hardly a row is in; a byte has 256 of them."""

_METRICS = {"ip": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2, "l1": faiss.METRIC_L1}


def empty_index(key: IndexKey, metric: str, dim: int) -> faiss.Index:
    """Builds the untrained index of a key.

    Raises:
        RuntimeError: faiss refuses the key; its message says why.
    """
    index: faiss.Index = faiss.index_factory(dim, str(key), _METRICS[metric])
    return index


def default_nprobe(nlist: int) -> int:
    """Returns how many lists a search probes unless told otherwise: the square root of their number."""
    return max(1, round(math.sqrt(nlist)))


def train_parents(
    key: IndexKey,
    metric: str,
    pilot: NDArray[np.float32],
    seed: int,
    workers: int = 1,
    *,
    ids: NDArray[np.int64] | None = None,
    part: float = 1,
) -> Router:
    """Trains the transforms of an index and the parents of its lists on the pilot, float32 `(n, d)`.

    Parents are spherical for inner product, and of rows that differ. Another number of `workers`, threads, may change
    the last bits. `ids` int64 `(n,)`, ascending, are those of the pilot (default: 0 to n), and `part` is its part of
    the sample, 0 to 1. Cost: n·d² for the rotation, and ten times 256·K distances.
    """
    index = empty_index(key, metric, pilot.shape[1])
    parents, spherical = parents_of(key.nlist), metric == "ip"
    copies = Copies.found(np.arange(len(pilot)) if ids is None else ids, pilot, key.nlist, part)
    with limited(workers):
        _train_transforms(index, ChosenRows(pilot).some(ROTATION_ROWS, seed))
        chosen = copies.first_of_each(pilot).some(PILOT_PER_PARENT * parents, seed).behind(index)
    # Of several threads at so little most of the time is spent in waiting.
    with limited(1):
        head = _head(ChosenRows(chosen).some(HEAD_ROWS, seed), centred=not spherical)
    with limited(workers if parents > _FEW_PARENTS else 1):
        centroids = kmeans(chosen, min(parents, len(chosen)), spherical=spherical, seed=seed)
    return Router(index, centroids, spherical, copies, head)


def _head(rows: ChosenRows, *, centred: bool) -> NDArray[np.float32] | None:
    """The directions by which rows of a cell are clustered, float32 `(d, 128)`; None where there are hardly more."""
    if rows.dim < 2 * HEAD_COMPONENTS:
        return None
    _, directions = principal_directions(rows, centred=centred)
    return np.ascontiguousarray(directions[:, :HEAD_COMPONENTS], np.float32)


@dataclass(frozen=True)
class Assembled:
    """A trained index and what was measured of it; `assigner` and `audit` are None where lists are assigned flat."""

    index: faiss.Index
    held_out_residual: float
    assigner: TwoLevelAssigner | None
    audit: AssignmentAudit | None


def assemble(
    router: Router,
    centroids: NDArray[np.float32],
    pilot: NDArray[np.float32],
    held_out: NDArray[np.float32],
    seed: int,
    workers: int = 1,
) -> Assembled:
    """Puts the lists into the index, trains its codes, and audits both.

    Lists are renumbered cell by cell, under parents of the centroids themselves.

    Args:
        router: what the first level found; its index is trained in place.
        centroids: float32 `(nlist, d)`, behind the transforms.
        pilot, held_out: float32 `(n, dim)`, as they are indexed.
        seed: of the request.
        workers: threads; another number may change the last bits.
    """
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(router.index))  # what it has depends on the key
    with limited(workers):
        distinct = router.copies.first_of_each(pilot)
        chosen = distinct.some(_rows_for_codes(inner), seed)
        vectors = chosen.behind(router.index)
        if len(router.copies):
            centroids = settle(centroids, distinct.behind(router.index), spherical=router.spherical)
    with limited(workers if inner.nlist > _FEW_PARENTS**2 else 1):
        assigner = _regroup(centroids, spherical=router.spherical, seed=seed)
        if router.spherical:
            assigner = replace(assigner, centroids=assigner.centroids * _length(router, chosen, vectors))
        _fill_quantizer(inner, assigner.centroids)
    if not _stores_vectors(inner):
        assigned = _assign(assigner, vectors, _CELLS_FOR_RESIDUALS, workers)
        _train_codes(inner, vectors, assigned, seed, workers)
    inner.is_trained = router.index.is_trained = True
    inner.nprobe = default_nprobe(inner.nlist)
    with limited(workers):
        unseen = behind_transforms(router.index, held_out) if len(held_out) else vectors
        # Equal rows would outvote the others, and agree always.
        asked = router.copies.first_of_each(unseen).copied()
        audited = audit(assigner, asked, inner.nprobe) if inner.nlist > LISTS_ASSIGNED_FLAT else None
    residual = 0.0
    if not _stores_vectors(inner):
        lists = _assign(assigner, unseen, audited.probes if audited else len(assigner.parents), workers)
        residual = _residual(inner, unseen, lists, workers)
    return Assembled(router.index, residual, assigner if audited else None, audited)


def _stores_vectors(inner: Any) -> bool:
    """Whether codes are the vectors themselves: nothing is trained for them, and nothing is lost."""
    return isinstance(inner, faiss.IndexIVFFlat)


def _rows_for_codes(inner: Any) -> int:
    """How many rows codes are trained on; where there is nothing to train, some that tell how long vectors are."""
    if isinstance(inner, faiss.IndexIVFPQ):
        return codebook_rows(inner.pq.dsub)
    return _LENGTH_ROWS if _stores_vectors(inner) else CODE_ROWS


def _assign(assigner: TwoLevelAssigner, vectors: NDArray[np.float32], probes: int, workers: int) -> NDArray[np.int64]:
    """Lists of vectors, float32 `(n, d)`, by so many threads, whose number changes none."""
    parts = np.array_split(vectors, workers)
    with each_with_one_thread(workers) as pool:
        return np.concatenate(list(pool.map(lambda part: assigner.assign(part, probes), parts)))


def _train_transforms(index: faiss.Index, rows: ChosenRows) -> None:
    """Trains the transforms in turn, each on the rows behind those before it."""
    steps = index.chain.size() if isinstance(index, faiss.IndexPreTransform) else 0
    for number in range(steps):
        transform: Any = faiss.downcast_VectorTransform(index.chain.at(number))
        if isinstance(transform, faiss.OPQMatrix) and transform.d_out <= transform.d_in:
            rotation = principal_rotation(
                rows, transform.d_out, transform.M, centred=index.metric_type != _METRICS["ip"]
            )
            faiss.copy_array_to_vector(rotation.reshape(-1), transform.A)
            transform.is_trained = transform.is_orthonormal = True
        elif isinstance(transform, faiss.PCAMatrix):
            _train_components(transform, rows, centred=index.metric_type != _METRICS["ip"])
        elif not transform.is_trained:
            transform.train(rows.copied())
        if number + 1 < steps:
            rows = ChosenRows(transform.apply(rows.copied()))


def _train_components(transform: Any, rows: ChosenRows, *, centred: bool) -> None:
    """Trains a principal component analysis: faiss's, or one about zero.

    faiss takes the mean from every vector, which leaves distances as they are and changes inner products: these keep
    what points along the mean, and there `b` is zero.
    """
    if centred:
        transform.train(rows.copied())
    else:
        variances, directions = principal_directions(rows, centred=False)
        faiss.copy_array_to_vector(np.ascontiguousarray(directions.T, np.float32).reshape(-1), transform.PCAMat)
        # faiss's are sums, not means, over the vectors; whitened vectors are so much shorter.
        faiss.copy_array_to_vector((len(rows) * variances).astype(np.float32), transform.eigenvalues)
        faiss.copy_array_to_vector(np.zeros(transform.d_in, np.float32), transform.mean)
        transform.is_trained = True
    # Whitening divides by the root of these, and what does not vary, but for rounding, has no size to bring to one.
    variances = faiss.vector_to_array(transform.eigenvalues)
    least = _EMPTY_DIRECTION * float(variances[0]) or 1.0
    if transform.eigen_power != 0 and (variances[: transform.d_out] < least).any():
        faiss.copy_array_to_vector(np.maximum(variances, np.float32(least)), transform.eigenvalues)
        transform.prepare_Ab()
    elif not centred:
        transform.prepare_Ab()


def _regroup(centroids: NDArray[np.float32], *, spherical: bool, seed: int) -> TwoLevelAssigner:
    """Orders centroids cell by cell, under parents that are clustered from the centroids themselves."""
    cells = parents_of(len(centroids))
    chosen = ChosenRows(centroids).some(PILOT_PER_PARENT * cells, seed)
    parents = kmeans(chosen.copied(), cells, spherical=spherical, seed=seed)
    cell = nearest(centroids, parents, spherical=spherical)
    bounds = np.append(0, np.cumsum(np.bincount(cell, minlength=cells)))
    return TwoLevelAssigner(parents, centroids[np.argsort(cell, kind="stable")], bounds, spherical)


def _length(router: Router, rows: ChosenRows, vectors: NDArray[np.float32]) -> np.float32:
    """How long centroids are made that have length one: about as long as `vectors`, which are `rows` transformed.

    A product is the largest with the same centroid, however long all of them are; but what is coded is the difference
    to it. A power of two, so that no centroid is rounded; 1 for vectors of length one.
    """
    before, behind = math.sqrt(rows.mean_square()), math.sqrt(ChosenRows(vectors).mean_square())
    if not behind or (router.bounded and abs(before - 1) < _ABOUT_ONE):
        return np.float32(1)
    return np.float32(2.0 ** round(math.log2(behind)))


def _fill_quantizer(inner: Any, centroids: NDArray[np.float32]) -> None:
    quantizer = faiss.downcast_index(inner.quantizer)
    if not isinstance(quantizer, faiss.IndexHNSW):
        quantizer.add(centroids)
        return
    quantizer.hnsw.efConstruction = GRAPH_EFFORT
    with limited_here(1):  # a graph that several threads build differs from run to run
        quantizer.add(centroids)


def _train_codes(inner: Any, vectors: NDArray[np.float32], lists: NDArray[np.int64], seed: int, workers: int) -> None:
    """Trains what encodes a vector, on residuals where the index takes them (faiss's `IndexIVF::train`)."""
    rows, assigned = np.ascontiguousarray(vectors), np.ascontiguousarray(lists)
    if inner.by_residual:
        rows = rows - inner.quantizer.reconstruct_batch(assigned)
    _check_range(inner, rows)
    if isinstance(inner, faiss.IndexIVFPQ):
        inner.do_polysemous_training = False
        books = train_codebooks(rows, inner.pq.M, inner.pq.nbits, seed, workers)
        faiss.copy_array_to_vector(books.reshape(-1), inner.pq.centroids)
        return
    # The arrays have names that outlive the call: swig_ptr does not keep them alive.
    with limited(workers):
        inner.train_encoder(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(assigned))
    if isinstance(inner, faiss.IndexIVFScalarQuantizer) and inner.sq.qtype in _FEW_BITS:
        faiss.copy_array_to_vector(train_ranges(rows, _FEW_BITS[inner.sq.qtype]), inner.sq.trained)


def _check_range(inner: Any, rows: NDArray[np.float32]) -> None:
    """Refuses codes in which rows, float32 `(n, d)` as they are coded, are too small or too large to be told apart.

    Raises:
        PixdexError: with the way out.
    """
    mean = float(np.einsum("ij,ij->", rows, rows, dtype=np.float64)) / max(len(rows), 1)
    if isinstance(inner, faiss.IndexIVFRaBitQ) and 0 < mean < _LEAST_RABITQ:
        raise PixdexError(
            f"RaBitQ cannot tell these vectors apart, which are {math.sqrt(mean):.2g} from their centroids and should "
            f"be {math.sqrt(_LEAST_RABITQ):g} or more: scale them up, or take SQ8 or PQ, in a new root"
        )
    if isinstance(inner, faiss.IndexIVFScalarQuantizer) and inner.sq.qtype == faiss.ScalarQuantizer.QT_fp16:
        half = np.finfo(np.float16)
        largest, usual = float(np.abs(rows).max(initial=0)), math.sqrt(mean / rows.shape[1])
        if largest > float(half.max) or 0 < usual < float(half.tiny):
            raise PixdexError(
                f"SQfp16 has no numbers for these vectors, whose components are {usual:.2g}, at most {largest:.2g}, "
                f"from their centroids: it has {float(half.tiny):.1g} to {float(half.max):g}: "
                "scale them, or take SQbf16 or SQ8, in a new root"
            )


def _residual(inner: Any, vectors: NDArray[np.float32], lists: NDArray[np.int64], workers: int) -> float:
    """Mean squared error of vectors, float32 `(n, d)`, after coding, over their mean squared norm."""
    rows, assigned = np.ascontiguousarray(vectors), np.ascontiguousarray(lists)
    codes = np.zeros((len(rows), inner.code_size), np.uint8)
    decoded = np.empty_like(rows)
    with limited(workers):
        inner.encode_vectors(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(assigned), faiss.swig_ptr(codes), False)
        inner.decode_vectors(len(rows), faiss.swig_ptr(codes), faiss.swig_ptr(assigned), faiss.swig_ptr(decoded))
    error, norm = (float(np.einsum("ij,ij->", part, part, dtype=np.float64)) for part in (rows - decoded, rows))
    return error / norm if norm else 0.0
