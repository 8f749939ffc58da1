"""Trains an index on a sample and writes it down: `index.faiss` without vectors, and `training.json`.

The simple way: faiss's own training of the whole factory string, in one process.
"""

import hashlib
import math
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms import layout
from transforms.index.choose import IndexKey
from transforms.index.faiss_file import describe_trained
from transforms.index.trained import Training
from transforms.records import FileReference, TrainedIndex, encode
from transforms.store import Store, sha256_of

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

    Coarse centroids are spherical for inner product, as the index factory sets them.
    """
    index = empty_index(key, metric, sample.shape[1])
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))  # what it has depends on the key
    inner.cp.seed = _seed(inner.cp.seed, seed)
    if hasattr(inner, "pq"):
        inner.do_polysemous_training = False
        inner.pq.cp.seed = _seed(inner.pq.cp.seed, seed)
    index.train(np.ascontiguousarray(sample))
    inner.nprobe = default_nprobe(inner.nlist)
    return index


def save(
    store: Store, index: faiss.Index, key: IndexKey, metric: Literal["ip", "l2"], sample: NDArray[np.float32], seed: int
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
    """Opens a trained index: mapped from a local root, else read into memory."""
    if store.local is not None:
        return faiss.read_index(str(store.local_path(reference.path)))
    return faiss.deserialize_index(np.frombuffer(store.read(reference.path), np.uint8))


def _seed(default: int, seed: int) -> int:
    return (default + seed) % (1 << 31)  # faiss keeps it as a C int


def _imbalance(index: faiss.Index, sample: NDArray[np.float32]) -> float:
    """Imbalance of the sample over the lists: 1 when all are alike (faiss's `InvertedLists::imbalance_factor`)."""
    inner = faiss.extract_index_ivf(index)
    vectors = np.ascontiguousarray(sample)
    if isinstance(index, faiss.IndexPreTransform):
        for number in range(index.chain.size()):
            vectors = faiss.downcast_VectorTransform(index.chain.at(number)).apply(vectors)
    _, lists = inner.quantizer.search(vectors, 1)
    sizes = np.bincount(lists[:, 0], minlength=inner.nlist).astype(np.float64)
    return round(float((sizes**2).sum() * inner.nlist / sizes.sum() ** 2), 6)
