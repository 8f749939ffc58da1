"""Opens a trained index for assignment and encoding: mapped where that can be, with its assigner beside."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss

from transforms.errors import PixdexError
from transforms.index import faiss_reader
from transforms.index.assignment import TwoLevelAssigner
from transforms.index.encode import Assign, centroids, flat_assign
from transforms.index.scores.elsewhere import Products
from transforms.index.trained import read_training
from transforms.markers import TrainedIndex
from transforms.storage import whole_files
from transforms.storage.store import Store, damaged

_FLAGS = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
"""Only a search needs the table that faiss makes of centroids and codebooks for L2, of up to 2 GiB."""


@dataclass(frozen=True)
class OpenTrained:
    """A trained index, and how vectors are assigned to its lists.

    Two-level assignment is used wherever there is any, be the quantizer flat or a graph, which is for searches: at
    equal agreement with flat it is the faster one. Measured on one core with 65,536 lists of 256 components: 31 and
    58 µs a vector for an agreement of .975 and .987 (16 and 32 cells), against 56 and 150 µs for .965 and .994 by
    HNSW32 (efSearch 16 and 64).

    Attributes:
        index: without vectors.
        assigner: None where few lists are assigned flat.
        probes: cells that the assigner looks into; 0 without one.
        products: those of another device than this processor; the assigner has the same.
    """

    index: faiss.Index
    assigner: TwoLevelAssigner | None
    probes: int
    products: Products | None = None

    @cached_property
    def assign(self) -> Assign:
        """Gives vectors behind the transforms, float32 `(n, d)` and finite, their lists: int64 `(n,)`."""
        assigner = self.assigner
        if assigner is None:
            return flat_assign(self.index, self.products)
        return lambda vectors: assigner.assign(vectors, self.probes)


def open_trained(store: Store, trained: TrainedIndex, products: Products | None = None) -> OpenTrained:
    """Opens a trained index, to add by the products of another device if there are any.

    Memory: of a root on a filesystem, faiss maps the centroids of a flat quantizer, which then take page cache and no
    memory of the process; other parts, and the indexes of object stores, are read.

    Raises:
        PixdexError: a file is missing or damaged, or the training says nothing of the assigner that is there.
    """
    index = trained_index(store, trained)
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))  # what it has depends on the key
    if isinstance(inner, faiss.IndexIVFPQ):
        # A second copy of the codebooks, laid out for faiss's encoder, which is then half as fast again.
        inner.pq.sync_transposed_centroids()
    if trained.assignment is None:
        return OpenTrained(index, None, 0, products)
    audit = read_training(store, trained).assignment
    if audit is None:
        raise PixdexError(
            f"{trained.training.path} does not say how many cells {trained.assignment.path} is used with: train again"
        )
    tensors = whole_files.read_tensors(store, trained.assignment)
    assigner = TwoLevelAssigner(
        tensors["parents"], centroids(inner), tensors["bounds"], trained.metric == "ip", products
    )
    return OpenTrained(index, assigner, audit.probes, products)


def trained_index(store: Store, trained: TrainedIndex) -> faiss.Index:
    """Reads the index alone, which faiss believes whatever it says: so its checksum comes first, at 1.2 GB/s.

    Raises:
        PixdexError: the file is missing or damaged.
    """
    try:
        if store.local is None:
            data = whole_files.read(store, trained.index)
            return faiss_reader.from_bytes(data, store.full(trained.index.path), _FLAGS)
        store.check(trained.index)
        return faiss_reader.read(store.local_path(trained.index.path), _FLAGS | faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1]
        raise damaged(store, trained.index.path, f"it is no index that faiss can read: {why}") from error
