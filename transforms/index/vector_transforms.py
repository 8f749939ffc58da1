"""Applies the vector transforms of an index, with matrix products of numpy's.

Those of faiss's own library round a row by where it stands among the others.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray


def behind_transforms(index: faiss.Index, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Applies the transforms of an index, if it has any, to float32 `(n, d)`."""
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain  # a std::vector, not the list that faiss's stubs say
        for step in range(chain.size()):
            transform: Any = faiss.downcast_VectorTransform(chain.at(step))
            if isinstance(transform, faiss.LinearTransform):
                matrix = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
                vectors = vectors @ matrix.T
                if transform.have_bias:
                    vectors += faiss.vector_to_array(transform.b)
            else:
                vectors = transform.apply(vectors)
    return vectors


def of_queries(index: faiss.Index, queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Does the same with faiss's own products, whose threads end with them: those of numpy's spin on for a while.

    Between two scans that takes as much time as these.
    """
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        for step in range(chain.size()):
            transform: Any = faiss.downcast_VectorTransform(chain.at(step))
            queries = transform.apply(np.ascontiguousarray(queries))
    return queries
