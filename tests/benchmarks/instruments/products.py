"""The limit that matrix products set: what adding would take if it were nothing but products at this machine's rate.

Products are numpy's in float32, of 4,096 rows, one in every thread beside the others, as the add stage makes them.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from transforms.index.threads import each_with_one_thread

_ROWS: Final = 4096
_TIMES, _TRIES = 4, 3


@dataclass(frozen=True)
class Product:
    """Rows of `inner` components with a matrix of `columns`: what it is for, and operations a second of all threads."""

    what: str
    inner: int
    columns: int
    flops_a_second: float

    def seconds(self, rows: int) -> float:
        return 2 * rows * self.inner * self.columns / self.flops_a_second


def of_adding(index: Any, threads: int, clock: Callable[[], float] = time.perf_counter) -> list[Product]:
    """Measures the products that bring a vector into an index: transforms, all centroids, codebooks.

    With one thread they are made in this one, whose CPU seconds may be the clock.

    Those of codebooks, of a few components each, count at the rate of the centroids' product.
    """
    shapes: list[tuple[str, int, int]] = []
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        steps = [faiss.downcast_VectorTransform(chain.at(step)) for step in range(chain.size())]
        shapes += [("rotation", step.d_in, step.d_out) for step in steps if isinstance(step, faiss.LinearTransform)]
    inner: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    shapes.append(("all centroids", inner.d, inner.nlist))
    found = [Product(what, wide, columns, _rate(wide, columns, threads, clock)) for what, wide, columns in shapes]
    if isinstance(inner, faiss.IndexIVFPQ):
        found.append(Product("codebooks", inner.d, inner.pq.ksub, found[-1].flops_a_second))
    return found


def _rate(inner: int, columns: int, threads: int, clock: Callable[[], float]) -> float:
    """Operations a second at the best of some tries."""
    random = np.random.default_rng(0)
    rows = [random.standard_normal((_ROWS, inner), np.float32) for _ in range(threads)]
    matrix = random.standard_normal((columns, inner), np.float32)
    outs = [np.empty((_ROWS, columns), np.float32) for _ in range(threads)]

    def multiply(some: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        for _ in range(_TIMES):
            np.matmul(some, matrix.T, out=out)

    def tried(each: Callable[..., Iterable[None]]) -> float:
        started = clock()
        list(each(multiply, rows, outs))
        return clock() - started

    if threads == 1:
        least = min(tried(map) for _ in range(_TRIES))
    else:
        with each_with_one_thread(threads) as pool:
            least = min(tried(pool.map) for _ in range(_TRIES))
    return float(2 * threads * _TIMES * _ROWS * inner * columns / least)
