"""What codes lose of vectors, as autofaiss measures it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def reconstruction_error(index: Any, vectors: NDArray[np.float32]) -> float | None:
    """Returns the mean distance of vectors to what the codes of an index make of them, over their mean length, in %.

    Args:
        index: of faiss, trained; it need hold nothing.
        vectors: float32 `(n, d)`.

    Returns:
        None: there are no vectors, none has a length, or faiss does not decode codes of this kind.
    """
    if not len(vectors) or not vectors.any():
        return None
    try:
        decoded = index.sa_decode(index.sa_encode(vectors))
    except RuntimeError:
        return None
    mean = np.mean(np.linalg.norm(decoded - vectors, axis=1)) / np.mean(np.linalg.norm(vectors, axis=1))
    return 100 * float(mean)
