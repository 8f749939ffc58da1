"""Labels of neighbours: the label that most of a query's neighbours have, and how often it is that of the query."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from transforms.errors import UsageError
from transforms.evaluation.estimates import Estimate, share_of

Label = str | int


@dataclass(frozen=True)
class Labelled:
    """Labels that were predicted, beside the true ones.

    Attributes:
        labels: all that are true or predicted, sorted.
        confusion: queries by true label (rows) and predicted label (columns), int64 `(l, l)`.
        unpredicted: queries of each true label for which nothing was predicted, int64 `(l,)`; they are wrong.
    """

    labels: tuple[Label, ...]
    confusion: NDArray[np.int64]
    unpredicted: NDArray[np.int64]

    @classmethod
    def of(cls, truth: Sequence[Label], predicted: Sequence[Label | None]) -> Self:
        """Counts the queries of each true and each predicted label.

        Raises:
            UsageError: there are more of one than of the other, or labels that are not all text or all numbers.
        """
        if len(truth) != len(predicted):
            raise UsageError(f"{len(truth)} labels are true and {len(predicted)} predicted: give one of each a query")
        labels = _sorted({*truth, *(label for label in predicted if label is not None)})
        numbers: dict[Label | None, int] = {label: number for number, label in enumerate(labels)}
        numbers[None] = len(labels)
        rows = np.array([numbers[label] for label in truth], np.int64)
        columns = np.array([numbers[label] for label in predicted], np.int64)
        table = np.zeros((len(labels), len(numbers)), np.int64)
        np.add.at(table, (rows, columns), 1)
        return cls(labels, table[:, :-1], table[:, -1])

    @property
    def accuracy(self) -> Estimate:
        """The share of queries whose predicted label is the true one, with Wilson's interval."""
        return share_of(int(np.trace(self.confusion)), int(self.support.sum()))

    @property
    def support(self) -> NDArray[np.int64]:
        """Queries of each true label, int64 `(l,)`."""
        return np.asarray(self.confusion.sum(axis=1) + self.unpredicted, np.int64)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of the queries with each predicted label the share of which it is true, float64 `(l,)`; 0 of none."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of the queries with each true label the share of which it is predicted, float64 `(l,)`; 0 of none."""
        return _ratio(np.diag(self.confusion), self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        """The harmonic mean of precision and recall, float64 `(l,)`."""
        return _ratio(2 * np.diag(self.confusion), self.confusion.sum(axis=0) + self.support)


def voted(
    neighbours: Sequence[Sequence[Label | None]],
    k: int | None = None,
    distances: Sequence[Sequence[float]] | None = None,
) -> list[Label | None]:
    """Returns of each query the label that most of its neighbours have; of equally many, the first when sorted.

    So does scikit-learn's `KNeighborsClassifier`, with uniform weights. As many vote as are there; without any there is
    no label.

    Args:
        neighbours: labels of each query's neighbours, nearest first; None: one without a label, which has no vote.
        k: how many of the first vote; None: all.
        distances: of the neighbours, 0 or more. A vote then weighs 1 / distance, and where some have distance 0 only
            these vote, as with `weights="distance"`. Sums that are equal but for rounding are not equal.

    Raises:
        UsageError: `k` is less than 1, a neighbour has no distance or one that means nothing, or labels are not all
            text or all numbers.
    """
    if k is not None and k < 1:
        raise UsageError(f"k is {k}: take 1 or more")
    labels = _sorted({label for each in neighbours for label in each[:k] if label is not None})
    numbers = {label: number for number, label in enumerate(labels)}
    rows = [
        (place, numbers[label], column)
        for place, each in enumerate(neighbours)
        for column, label in enumerate(each[:k])
        if label is not None
    ]
    places, codes, columns = np.array(rows, np.int64).reshape(-1, 3).T
    weights = np.ones(len(rows))
    if distances is not None:
        _check(neighbours, distances)
        far = [distances[place][column] for place, column in zip(places.tolist(), columns.tolist(), strict=True)]
        weights = _weights(places, np.array(far, np.float64), len(neighbours))
    predicted: list[Label | None] = [None] * len(neighbours)
    for place, code in zip(*_winners(places, codes, weights, len(labels)), strict=True):
        predicted[place] = labels[code]
    return predicted


def _winners(
    places: NDArray[np.int64], codes: NDArray[np.int64], weights: NDArray[np.float64], labels: int
) -> tuple[list[int], list[int]]:
    """The queries that have votes, and the label of each."""
    pairs, votes = np.unique(places * max(labels, 1) + codes, return_inverse=True)
    sums = np.bincount(votes, weights, minlength=len(pairs))
    queries, voted_for = np.divmod(pairs, max(labels, 1))
    # Pairs are sorted by query and label, and stay so among equal sums.
    order = np.lexsort((-sums, queries))
    asked, firsts = np.unique(queries[order], return_index=True)
    return asked.tolist(), voted_for[order][firsts].tolist()


def _weights(places: NDArray[np.int64], distances: NDArray[np.float64], queries: int) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", over="ignore"):
        weights = 1 / distances
    same = np.isinf(weights)
    has_same = np.bincount(places[same], minlength=queries) > 0
    return np.where(has_same[places], same.astype(np.float64), weights)


def _check(neighbours: Sequence[Sequence[Label | None]], distances: Sequence[Sequence[float]]) -> None:
    if [len(each) for each in neighbours] != [len(each) for each in distances]:
        raise UsageError("there are more neighbours than distances, or fewer: give each neighbour its distance")
    for place, each in enumerate(distances):
        for distance in each:
            if not distance >= 0:
                raise UsageError(f"query {place} has a neighbour at distance {distance}: take 0 or more")


def _sorted(labels: set[Label]) -> tuple[Label, ...]:
    kinds = {isinstance(label, str) for label in labels}
    if len(kinds) > 1:
        raise UsageError("some labels are text and some are numbers: make all of one kind")
    return tuple(sorted(labels))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
