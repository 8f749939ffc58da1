"""Trains an index on a sample and writes it down: `index.faiss` without vectors, and `training.json`.

The structure is faiss's; what costs the time is trained here: the rotation in closed form, the lists in two levels with
one pass over all of them, the codebooks on a bounded number of residuals and without polysemous training.
"""

import hashlib
import math
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms import layout
from transforms.index.choose import IndexKey
from transforms.index.clustering import two_level_centroids
from transforms.index.faiss_file import describe_trained
from transforms.index.rotation import principal_rotation
from transforms.index.trained import Training
from transforms.records import FileReference, Metric, TrainedIndex, encode
from transforms.store import Store, sha256_of

_ROTATION_ROWS = 65_536
"""Vectors that a covariance is taken from: 128 times its side at 512 components."""

_CODEBOOK_ROWS = 65_536
"""Residuals for codebooks: 256 for each of 256 centroids, all that faiss would use."""

_CODEBOOK_ITERATIONS = 15
"""Of k-means in each subspace, where faiss takes 25: the time of this part goes with it."""

_HNSW_EF_CONSTRUCTION = 200

_METRICS = {"ip": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}


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


def train(key: IndexKey, metric: str, sample: NDArray[np.float32], seed: int) -> faiss.Index:
    """Trains every part of an index on the sample, float32 `(n, d)`.

    Coarse centroids are spherical for inner product. Cost: the sample once more after the transforms; for n
    sampled vectors and K lists, about n·√K distances for each of ten iterations, and 4·n·√K for the last pass.
    """
    index = empty_index(key, metric, sample.shape[1])
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))  # what it has depends on the key
    vectors = _train_transforms(index, inner, np.ascontiguousarray(sample), seed)
    lists = _train_lists(inner, vectors, spherical=metric == "ip", seed=seed)
    _train_codes(inner, vectors, lists, seed)
    inner.is_trained = index.is_trained = True
    inner.nprobe = default_nprobe(inner.nlist)
    return index


def _train_transforms(
    index: faiss.Index, inner: faiss.Index, vectors: NDArray[np.float32], seed: int
) -> NDArray[np.float32]:
    """Trains the transforms in turn; returns the vectors behind them."""
    for transform in _transforms(index):
        if isinstance(transform, faiss.OPQMatrix) and transform.d_out <= transform.d_in:
            chosen = vectors[_some(len(vectors), _ROTATION_ROWS, seed)]
            rotation = principal_rotation(chosen, transform.d_out, transform.M)
            faiss.copy_array_to_vector(rotation.reshape(-1), transform.A)
            transform.is_trained = transform.is_orthonormal = True
        elif not transform.is_trained:
            transform.train(vectors)
        vectors = transform.apply(vectors)
    return vectors


def _train_lists(inner: Any, vectors: NDArray[np.float32], *, spherical: bool, seed: int) -> NDArray[np.int64]:
    """Finds the coarse centroids and puts them into the quantizer; returns the list of every vector."""
    centroids, lists = two_level_centroids(vectors, inner.nlist, spherical=spherical, seed=seed)
    quantizer = faiss.downcast_index(inner.quantizer)
    if isinstance(quantizer, faiss.IndexHNSW):
        quantizer.hnsw.efConstruction = _HNSW_EF_CONSTRUCTION
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # a graph that several threads build differs from run to run
        quantizer.add(centroids)
        faiss.omp_set_num_threads(threads)
    else:
        quantizer.add(centroids)
    return lists


def _train_codes(inner: Any, vectors: NDArray[np.float32], lists: NDArray[np.int64], seed: int) -> None:
    """Trains what encodes a vector, on residuals where the index takes them (faiss's `IndexIVF::train`)."""
    if hasattr(inner, "pq"):
        inner.do_polysemous_training = False
        inner.pq.cp.seed = _seed(inner.pq.cp.seed, seed)
        inner.pq.cp.niter = _CODEBOOK_ITERATIONS
    chosen = _some(len(vectors), _CODEBOOK_ROWS, seed)
    rows, assigned = np.ascontiguousarray(vectors[chosen]), np.ascontiguousarray(lists[chosen])
    if inner.by_residual:
        rows -= inner.quantizer.reconstruct_batch(assigned)
    # The arrays have names that outlive the call: swig_ptr does not keep them alive.
    inner.train_encoder(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(assigned))


def save(
    store: Store, index: faiss.Index, key: IndexKey, metric: Metric, sample: NDArray[np.float32], seed: int
) -> TrainedIndex:
    """Writes a trained index below `trained/<fingerprint>`; the same index always has the same name."""
    inner = faiss.extract_index_ivf(index)
    described = describe_trained(index)
    training = Training(
        key=str(key),
        metric=metric,
        dim=index.d,
        nlist=inner.nlist,
        code_size=inner.code_size,
        nprobe=inner.nprobe,
        seed=seed,
        sample_rows=len(sample),
        imbalance=_imbalance(index, sample),
        faiss=faiss.__version__,
        layout=described,
    )
    with store.scratch() as scratch:
        index_file, training_file = scratch / "index.faiss", scratch / "training.json"
        faiss.write_index(index, str(index_file))
        training_file.write_bytes(encode(training))
        sums = {file: sha256_of(file) for file in (index_file, training_file)}
        fingerprint = hashlib.sha256("".join(sums.values()).encode()).hexdigest()
        references = [
            store.upload_as(file, f"{layout.trained_folder(fingerprint)}/{file.name}", f"sha256:{checksum}")
            for file, checksum in sums.items()
        ]
    return TrainedIndex(
        fingerprint=fingerprint,
        key=str(key),
        metric=metric,
        dim=index.d,
        nlist=inner.nlist,
        code_size=inner.code_size,
        nprobe=inner.nprobe,
        index=references[0],
        training=references[1],
    )


def load(store: Store, reference: FileReference) -> faiss.Index:
    """Reads a trained index into memory."""
    if store.local is not None:
        return faiss.read_index(str(store.local_path(reference.path)))
    return faiss.deserialize_index(np.frombuffer(store.read(reference.path), np.uint8))


def _transforms(index: faiss.Index) -> list[Any]:
    if not isinstance(index, faiss.IndexPreTransform):
        return []
    return [faiss.downcast_VectorTransform(index.chain.at(number)) for number in range(index.chain.size())]


def _some(rows: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """Positions of at most `wanted` of the rows, ascending."""
    if rows <= wanted:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed % (1 << 32)).choice(rows, wanted, replace=False))


def _seed(default: int, seed: int) -> int:
    return (default + seed) % (1 << 31)  # faiss keeps it as a C int


def _imbalance(index: faiss.Index, sample: NDArray[np.float32]) -> float:
    """Imbalance of the sample over the lists: 1 when all are alike (faiss's `InvertedLists::imbalance_factor`)."""
    inner = faiss.extract_index_ivf(index)
    vectors = np.ascontiguousarray(sample[:_ROTATION_ROWS])
    for transform in _transforms(index):
        vectors = transform.apply(vectors)
    _, lists = inner.quantizer.search(vectors, 1)
    sizes = np.bincount(lists[:, 0], minlength=inner.nlist).astype(np.float64)
    return round(float((sizes**2).sum() * inner.nlist / sizes.sum() ** 2), 6)
