"""How much training takes of everything: rows, lists, rounds, each with what it was chosen by.

Arithmetic alone, without faiss: what a forecast counts with is what the training does.
"""

import math
from dataclasses import dataclass
from typing import Final

from transforms.index.index_key import IndexKey

POINTS_PER_LIST: Final = 40
"""Training vectors a list; faiss asks for 39 to 256. The sample, and the time of training, go with it.

On a million clustered vectors of 512 components with 16,384 lists, 50 took a quarter longer, and recall@10 at equal
codes scanned was 0.2 to 0.7 points higher.
"""

MIN_SAMPLE: Final = 65_536
"""Enough for the codebooks of a product quantizer (256 points for each of 256 centroids)."""

HELD_OUT: Final = 4096
"""Rows that nothing is trained on: of an agreement of 0.99 they tell ±0.0016."""

HELD_OUT_SHARE: Final = 32
"""Of so many rows one is held out where there are fewer than the sample wants."""

ITERATIONS: Final = 10
"""Of Lloyd's algorithm for the parents: their time goes with it."""

CELL_ITERATIONS: Final = 8
"""Of Lloyd's algorithm in a cell: the time of this part goes with it. Centroids change places after the first, the
third and the fifth.

On 300,000 clustered vectors of 512 components with 4,096 lists, 8 with changes, after two passes and at the same
imbalance, needed 2 to 5 % fewer codes for a coverage of .8 to .95 than 10 of faiss's without, and as many for .98.
"""

FLAT_BELOW: Final = 256
"""Lists below which there is one cell: one flat k-means is as fast."""

PILOT_PER_PARENT: Final = 256
"""Vectors that parents are clustered from, for each of them."""

GROUP_ROWS: Final = 65_536
"""Rows of a group of cells, at least: small trainings have few tasks, and a task holds little more than these."""

PASSES: Final = 2
"""Passes over all lists.

On 50,000 picture embeddings, 256 components and 1,024 lists, the share of the ten nearest vectors in the probed lists
(1, 2, 4 … 64 of them, at equal codes scanned) was behind flat k-means of 10 iterations by 0.5 to 1.3 points without a
pass, 0.2 to 0.6 with one, and between 0.2 behind and 0.4 ahead with two; a third moved it by less than 0.2. Flat
k-means of another seed was 0.3 behind on average. Lists that are divided after the first need the second.

On a million clustered vectors of 512 components with 4,096 lists (2, 3, 4, 6, 12 of them; means of eight seeds, ±.15) a
third pass brought .3, .2, .2, .2, .1 points, with twice the rows .9, .6, .5, .3, .3. It is no gain when cells and the
first pass each see another half of the rows: -.3, -.4, -.2, -.2, .0 with two passes.
"""

PASS_LISTS: Final = 128
"""Lists that a row looks at in a pass, beside those of its cell: the nearest to the best of these.

On 300,000 clustered vectors of 512 components with 4,096 lists (64 a cell), the mean product of a row with its
centroid was .845 after two passes, .836 where rows looked at all lists of their nearest four cells, .830 where those
of a cell all looked at the 256 lists nearest to its parent. In 64 components with 1,024 lists (32 a cell), .979 of the
rows found the nearest of all lists, .961 with 64; .95 in four cells.
"""

PASS_CELLS: Final = 16
"""Lists near a list are looked for among as many as so many cells have: with all, the time would go with the square."""

HEAD_COMPONENTS: Final = 128
"""Directions by which rows of a cell are clustered, where there are twice as many components or more.

They hold .987 of the variance of the clustered vectors of 512 components, .985 of it in 64. Passes see all components.
"""

HEAD_ROWS: Final = 8192
"""Vectors that these directions are taken from."""

ROTATION_ROWS: Final = 32_768
"""Vectors that a covariance is taken from: 64 times its side at 512 components."""

CODE_ROWS: Final = 65_536
"""Vectors that other codes than those of a product quantizer are trained on."""

_CODEBOOK_ITERATIONS: Final = 8
"""Of k-means in each subspace, where faiss takes 25: the time of this part goes with it.

On 50,000 picture embeddings with `OPQ64_256,IVF1024,PQ64`, recall@10 at 64 lists was .708 with 32,768 residuals and 8
iterations, .706 with 10, .709 with 25, and .707 with 50,000 residuals and 10 (means of two seeds, which are ±.004).
"""

_CODEBOOK_ROWS: Final = 32_768
"""Residuals for codebooks: 128 for each of 256 centroids."""

_FEW_ROWS: Final = 16_384
_ITERATIONS_OF_FEW: Final = 25
"""Of fewer residuals than that: as many as faiss takes, for what costs little anyway."""

FAST_NUMBERS: Final = 1 << 17
"""Numbers (rows times components) from which on faiss 1.15.1 takes 0.3 ns a distance and not 3, for few components."""

GRAPH_EFFORT: Final = 100
"""`efConstruction` of a graph of centroids, which one thread builds. Of 16,384 centroids it took 2.2 s, and 4.4 s with
200; of the 64 nearest centroids a search with efSearch 128 found .990, and .995 with 200."""

LISTS_ASSIGNED_FLAT: Final = 8192
"""Up to so many lists, vectors are assigned flat."""

AUDIT_QUERIES: Final = 512
"""Rows whose neighbours the audit looks for with other numbers of cells."""

CANARY_QUERIES: Final = 1000
"""Queries that later runs ask again (`transforms.index.canaries`)."""

CANARY_NEIGHBOURS: Final = 100
"""Exact neighbours kept of every query: so many may die until it has fewer than ten."""

CANARY_ROWS: Final = 16_384
"""Rows that they are answered with; to find their lists, to code them, and to multiply them with the queries, takes a
training some seconds of CPU time: 4.1 with twice as many, of 512 components and with 4,096 lists."""


@dataclass(frozen=True)
class Shares:
    """Shares of the rows, 0 to 1 and ascending: in the pilot, in all that is trained on, and with those held out."""

    pilot: float
    trained: float
    sampled: float


def sample_shares(key: IndexKey, rows: int) -> Shares:
    """Returns the shares of the rows that training needs.

    No row is held out where twice the rows that the key needs would not be left.
    """
    held_out = min(HELD_OUT, rows // HELD_OUT_SHARE)
    if rows - held_out < 2 * key.rows_needed:
        held_out = 0
    trained = min(max(POINTS_PER_LIST * key.nlist, MIN_SAMPLE), rows - held_out)
    pilot = min(max(MIN_SAMPLE, PILOT_PER_PARENT * parents_of(key.nlist)), trained)
    total = max(rows, 1)
    return Shares(pilot / total, trained / total, (trained + held_out) / total)


def parents_of(nlist: int) -> int:
    """Returns how many parents `nlist` centroids get: the square root of their number; one for few."""
    return round(math.sqrt(nlist)) if nlist >= FLAT_BELOW else 1


def codebook_rows(components: int) -> int:
    """Returns how many residuals to train on, for so many components a subspace: 32,768, and more where that is faster.

    >>> codebook_rows(4), codebook_rows(2), codebook_rows(1)
    (32768, 65536, 65536)
    """
    return min(max(_CODEBOOK_ROWS, FAST_NUMBERS // components), 2 * _CODEBOOK_ROWS)


def codebook_iterations(rows: int) -> int:
    """Returns the iterations of k-means on so many residuals.

    >>> codebook_iterations(65_536), codebook_iterations(1000)
    (8, 25)
    """
    return _CODEBOOK_ITERATIONS if rows >= _FEW_ROWS else _ITERATIONS_OF_FEW
