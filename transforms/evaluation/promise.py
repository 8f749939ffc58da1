"""A promise of recall: on average, for a share of the queries, or both; and whether queries keep it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Promise:
    """What searches are to find.

    Attributes:
        recall: recall@k on average; None: that is not asked for.
        tail: a recall, and the share of queries that are to reach it; None: that is not asked for.
    """

    recall: float | None
    tail: tuple[float, float] | None = None

    def is_kept(self, found: NDArray[np.float64], spare: float) -> bool:
        """Tells whether queries with that recall, float64 `(q,)`, keep it with so many standard errors to spare."""
        counted = found[~np.isnan(found)]
        if not len(counted):
            return False
        several = max(len(counted) - 1, 1)
        error = math.sqrt(float(counted.var()) / several)
        kept = self.recall is None or float(counted.mean()) - spare * error >= self.recall
        if self.tail is None:
            return kept
        share = self.tail_of(counted)
        return kept and share - spare * math.sqrt(share * (1 - share) / several) >= self.tail[1]

    def tail_of(self, found: NDArray[np.float64]) -> float:
        """Returns the share of queries that reach the recall of the tail."""
        assert self.tail is not None
        counted = found[~np.isnan(found)]
        return float((counted >= self.tail[0] - 1e-9).mean())

    def __str__(self) -> str:
        """As a person says it."""
        parts = [] if self.recall is None else [f"recall {self.recall:g}"]
        parts += [] if self.tail is None else [f"recall {self.tail[0]:g} for {100 * self.tail[1]:g} % of the queries"]
        return " and ".join(parts)
