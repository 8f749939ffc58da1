"""Assigns vectors to lists by two levels: rank the parents, look only into the best few cells.

Flat assignment costs K products a vector. Here a vector meets the √K parents and the centroids of its best `probes`
cells; vectors are grouped by cell, so that each cell is one matrix product.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TwoLevelAssigner:
    """Finds the nearest centroid among those of the nearest cells.

    Attributes:
        parents: float32 `(cells, d)`.
        centroids: float32 `(nlist, d)`, cell by cell.
        bounds: int64 `(cells + 1,)`: cell c has the centroids `bounds[c]` to `bounds[c + 1]`.
        spherical: nearest by inner product, else by L2.
    """

    parents: NDArray[np.float32]
    centroids: NDArray[np.float32]
    bounds: NDArray[np.int64]
    spherical: bool

    def assign(self, vectors: NDArray[np.float32], probes: int) -> NDArray[np.int64]:
        """Returns a list for every vector of float32 `(n, d)`: int64 `(n,)`.

        Args:
            vectors: what to assign.
            probes: cells looked into; all of them is exact, and costs what flat assignment does.
        """
        ranking = faiss.IndexFlatIP(vectors.shape[1]) if self.spherical else faiss.IndexFlatL2(vectors.shape[1])
        ranking.add(self.parents)
        _, cells = ranking.search(np.ascontiguousarray(vectors), min(probes, len(self.parents)))
        flat = cells.reshape(-1)
        order = np.argsort(flat, kind="stable")
        rows = order // cells.shape[1]
        edges = np.searchsorted(flat[order], np.arange(len(self.parents) + 1))
        best = np.full(len(vectors), -np.inf, np.float32)
        lists = np.full(len(vectors), -1, np.int64)
        bias = None if self.spherical else 0.5 * np.einsum("ij,ij->i", self.centroids, self.centroids)
        for cell in np.flatnonzero((edges[1:] > edges[:-1]) & (self.bounds[1:] > self.bounds[:-1])).tolist():
            members = rows[edges[cell] : edges[cell + 1]]
            start, stop = int(self.bounds[cell]), int(self.bounds[cell + 1])
            scores = vectors[members] @ self.centroids[start:stop].T
            if bias is not None:
                scores -= bias[start:stop]
            place = scores.argmax(axis=1)
            score = scores[np.arange(len(members)), place]
            # A vector occurs once a cell, so `members` has no twins and plain assignment is safe.
            better = score > best[members]
            chosen = members[better]
            best[chosen] = score[better]
            lists[chosen] = start + place[better]
        return lists
