"""What operations count as, in components: what is done beside a product takes as long as so many components more.

Each figure was measured with one thread; `transforms.forecast.measure` counts with them as `transforms.forecast.work`
does.
"""

import math
from typing import Final

from transforms.index.training.figures import CELL_ITERATIONS, GRAPH_EFFORT

SCORE_COMPONENTS: Final = 80
"""A score of a vector and a list among a few takes as long as so many components more: one thread took 3.2, 4.7 and
7.7 ns for 64, 128 and 256 components, for what is done with a score does not depend on them."""

PRODUCT_COMPONENTS: Final = 40
"""The same of a product of a batch with many centroids, as flat assignment and k-means have it: one thread took 2.6,
4.4, 6.8 and 12.5 ns a score of 64, 128, 256 and 512 components."""

MOVED_LISTS: Final = 30
"""K-means in a cell takes a row as long as so many lists more, for centroids are moved: 120 ns in 128 components."""

LINK_COMPONENTS: Final = 200
"""A look at a node of a graph takes as long as so many components more: it may lie anywhere in the memory."""

ENTRY_COMPONENTS: Final = 12
"""The same of a sub-vector and an entry of a codebook: .33, .36 and .42 ns for 1, 2 and 4 components."""

BOUND_COMPONENTS: Final = 56
"""Like `PRODUCT_COMPONENTS`, of the bound of a list, whose product has a quarter of the components."""


def formula(*factors: float) -> str:
    """Writes a product with its factors, ones left out.

    >>> formula(2, 1_000_000, 1, 512)
    '2 x 1,000,000 x 512'
    """
    return " x ".join(f"{factor:,}" for factor in factors if factor != 1) or "1"


def kmeans_in_cells(rows: int, lists: int, components: int) -> tuple[float, str]:
    """Operations of k-means on rows of which each is in a cell of so many lists, and their formula."""
    factors = 2 * rows, lists + MOVED_LISTS, components + PRODUCT_COMPONENTS, CELL_ITERATIONS
    text = f"2 x {rows:,} x ({lists:,} + {MOVED_LISTS}) x ({components} + {PRODUCT_COMPONENTS}) x {factors[3]}"
    return math.prod(factors), text


def graph_made(nodes: int, links: int, components: int) -> tuple[float, str]:
    """Operations of an HNSW graph of so many links while it is made, and their formula.

    A node is compared with about its width, times its links, others.
    """
    looks = GRAPH_EFFORT * links
    text = f"2 x {nodes:,} x {looks:,} x ({components} + {LINK_COMPONENTS})"
    return 2 * nodes * looks * (components + LINK_COMPONENTS), text
