"""How good rankings are by judgements: cumulated gain, average precision, reciprocal rank, precision.

A ranking is the keys of a query's results, best first. It is taken in the order given, so that equal scores need no
rule here: whoever ranked has one. (trec_eval sorts anew and breaks ties by the names of documents, scikit-learn takes
the average over all orders of ties.)

What is counted:

- A key without a judgement has relevance 0, and so has one that is judged below 0, as in ranx and trec_eval.
- Cumulated gain takes any relevance above 0; what is only relevant or not is relevant from 1 on.
- A judged query without results counts 0. So does one of which nothing is relevant, as in ranx.
- Results of a query without judgements are left out.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.evaluation.estimates import Measured

Query = TypeVar("Query", bound=Hashable)
Key = TypeVar("Key", bound=Hashable)

Gain = Literal["linear", "exponential"]
"""What a relevance is worth: itself (Järvelin and Kekäläinen 2002), or 2**relevance - 1 (Burges et al. 2005)."""

RELEVANT: Final = 1.0
"""From this relevance on an item is relevant, where it is that or not."""

_LARGEST_EXPONENT: Final = 500


@dataclass(frozen=True)
class Graded:
    """Items of queries, query after query, in their order, each with its relevance.

    Attributes:
        places: the place of the query of each item, int64 `(n,)`.
        ranks: of each item within its query, from 1, int64 `(n,)`.
        relevances: 0 or more, float64 `(n,)`.
    """

    places: NDArray[np.int64]
    ranks: NDArray[np.int64]
    relevances: NDArray[np.float64]

    @classmethod
    def of(cls, lists: Sequence[Sequence[float]]) -> Self:
        """Takes the relevances of each query's items; what is below 0 becomes 0."""
        counts = np.array([len(each) for each in lists], np.int64)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        flat = np.array([relevance for each in lists for relevance in each], np.float64)
        places = np.repeat(np.arange(len(lists), dtype=np.int64), counts)
        return cls(places, np.arange(1, len(flat) + 1, dtype=np.int64) - starts, np.maximum(flat, 0.0))


@dataclass(frozen=True)
class Judged:
    """Rankings beside what they are judged by. Each measure is of all judged queries, in their order.

    `k` is how many of the first results are looked at; None: all of them.

    Attributes:
        queries: those with judgements.
        results: their results, with relevances.
        ideal: what a perfect ranking would be: their judged items of relevance above 0, best first.
        left_out: rankings of queries without judgements.
    """

    queries: tuple[Hashable, ...]
    results: Graded
    ideal: Graded
    left_out: int

    @classmethod
    def of(cls, rankings: Mapping[Query, Sequence[Key]], judgements: Mapping[Query, Mapping[Key, float]]) -> Self:
        """Looks up every result among the judgements.

        Args:
            rankings: of each query the keys of its results, best first.
            judgements: of each query the relevance of keys.

        Raises:
            UsageError: a key is twice among the results of a query, or a relevance is no finite number.
        """
        found, ideal = [], []
        for query, grades in judgements.items():
            ranking = rankings.get(query, ())
            _check(query, ranking, grades)
            found.append([grades.get(key, 0.0) for key in ranking])
            ideal.append(sorted((grade for grade in grades.values() if grade > 0), reverse=True))
        left_out = sum(query not in judgements for query in rankings)
        return cls(tuple(judgements), Graded.of(found), Graded.of(ideal), left_out)

    def without_results(self) -> int:
        """Returns how many judged queries have no results: they count 0."""
        return len(self.queries) - len(np.unique(self.results.places))

    def without_relevant(self) -> int:
        """Returns how many judged queries have nothing that is relevant: they count 0, whatever is found."""
        return int((self._relevant_items() == 0).sum())

    def cg(self, k: int | None = None, gain: Gain = "linear") -> Measured:
        """Cumulated gain: the sum of gains."""
        return Measured.of(self._gained(self.results, k, gain, discounted=False), math.inf)

    def dcg(self, k: int | None = None, gain: Gain = "linear") -> Measured:
        """Discounted cumulated gain: the sum of gain / log2(rank + 1).

        So do ranx, trec_eval and scikit-learn. Järvelin and Kekäläinen divide by log2(rank), and only from rank 2 on.
        """
        return Measured.of(self._gained(self.results, k, gain, discounted=True), math.inf)

    def ndcg(self, k: int | None = None, gain: Gain = "linear") -> Measured:
        """DCG as a share of that of a perfect ranking, whose first `k`, or all, are looked at as well.

        With linear gain it is ranx's `ndcg`, with exponential gain its `ndcg_burges`.
        """
        perfect = self._gained(self.ideal, k, gain, discounted=True)
        return Measured.of(_shares(self._gained(self.results, k, gain, discounted=True), perfect))

    def average_precision(self, k: int | None = None) -> Measured:
        """Precision at the rank of each relevant result, over all relevant items of the query; its mean is MAP.

        With `k` relevant results behind it count 0, and the divisor stays, as in ranx and trec_eval.
        """
        hit = self._hits(k)
        precisions = self._hits_so_far()[hit] / self.results.ranks[hit]
        return Measured.of(_shares(self._sums(self.results.places[hit], precisions), self._relevant_items()))

    def reciprocal_rank(self, k: int | None = None) -> Measured:
        """1 / rank of the first relevant result, 0 without one; its mean is MRR."""
        first = self._hits(k) & (self._hits_so_far() == 1)
        return Measured.of(self._sums(self.results.places[first], 1 / self.results.ranks[first]))

    def precision(self, k: int) -> Measured:
        """The share of `k` that is relevant; where fewer were found, the others are not."""
        hit = self._hits(k)
        return Measured.of(self._sums(self.results.places[hit], np.ones(int(hit.sum()))) / k)

    def _gained(self, graded: Graded, k: int | None, gain: Gain, *, discounted: bool) -> NDArray[np.float64]:
        first = graded.ranks <= _most(k)
        relevances = graded.relevances[first]
        if gain == "exponential":
            largest = float(relevances.max(initial=0.0))
            if largest > _LARGEST_EXPONENT:
                raise UsageError(
                    f"a relevance is {largest:g}, whose exponential gain no float holds: take linear gain, or grades"
                    f" up to {_LARGEST_EXPONENT}"
                )
            relevances = np.exp2(relevances) - 1
        if discounted:
            relevances = relevances / np.log2(graded.ranks[first] + 1)
        return self._sums(graded.places[first], relevances)

    def _hits(self, k: int | None) -> NDArray[np.bool_]:
        """Which results are relevant, and among the first `k`."""
        return (self.results.relevances >= RELEVANT) & (self.results.ranks <= _most(k))

    def _hits_so_far(self) -> NDArray[np.int64]:
        """How many of the results of a query are relevant, up to each of them."""
        before = np.concatenate([[0], np.cumsum(self.results.relevances >= RELEVANT)])
        end = np.arange(1, len(self.results.ranks) + 1)
        return np.asarray(before[end] - before[end - self.results.ranks], np.int64)

    def _relevant_items(self) -> NDArray[np.float64]:
        relevant = self.ideal.relevances >= RELEVANT
        return self._sums(self.ideal.places, relevant.astype(np.float64))

    def _sums(self, places: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(places, values, minlength=len(self.queries)).astype(np.float64)


def _most(k: int | None) -> float:
    if k is not None and k < 1:
        raise UsageError(f"k is {k}: take 1 or more")
    return math.inf if k is None else k


def _shares(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parts of wholes; of nothing they are 0."""
    return np.divide(parts, wholes, out=np.zeros_like(parts), where=wholes > 0)


def _check(query: Hashable, ranking: Sequence[Hashable], grades: Mapping[Key, float]) -> None:
    if len(set(ranking)) < len(ranking):
        twice, _ = Counter(ranking).most_common(1)[0]
        raise UsageError(f"the results of query {query!r} name {twice!r} more than once: give every key one rank")
    for key, grade in grades.items():
        if not math.isfinite(grade):
            raise UsageError(f"query {query!r} judges {key!r} as {grade}: take a finite number, or leave the key out")
