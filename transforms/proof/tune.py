"""Chooses how far searches go, so that they keep a promise on queries that nothing was chosen by.

Of each shortlist the fewest lists are found that keep it, and of these settings the cheapest, by codes that are scanned
and vectors that are read; then the smallest margin at which queries stop by themselves. All of that on tuning queries,
and with a standard error to spare: what was chosen is confirmed on other queries.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from transforms.errors import UsageError
from transforms.evaluation.promise import Promise
from transforms.generations.tuned import QueryKind, Setting, Tuned
from transforms.index.adaptive.spread import Spread
from transforms.index.adaptive.stop import CANDIDATES
from transforms.index.index_key import IndexKey
from transforms.proof.curve import asked_of, kind_of, shares
from transforms.proof.exact import Neighbours
from transforms.proof.request import QuerySet
from transforms.search.open_index import OpenIndex
from transforms.search.searcher import Searcher

SHORTLISTS: Final = (0, 20, 50, 100, 200, 400)
"""Those that are tried, where vectors are stored that rank better than codes."""

_CODE_NS, _PQ_BYTE_NS, _BYTE_NS, _READ_NS, _STOP_NS, _LOOK_NS = 10.0, 1.0, 0.11, 15_000.0, 100_000.0, 1_000.0
"""Nanoseconds of a search on one core with everything in memory: of a code, of each of its bytes (which PQ looks up one
by one), of a vector that is read; of finding out where a query stops, and of each list that it looks at for that.

So what is chosen does not hang on what else the machine does meanwhile.
"""

Stopping = Literal["auto", "always", "never"]
"""Whether queries stop by themselves: where that takes less time, where it scans fewer codes, or not at all."""

_LOWEST, _HIGHEST, _FINE = -2.0, 8.0, 0.05
"""Margins that are tried, and how finely."""

_LISTS_FINE: Final = 1.04
"""Numbers of lists that are tried: each so many times the one before."""

_FLAT: Final = 1e-3
"""Twice the lists that find hardly more than so: codes, or the shortlist, lose the rest."""

_SPARE: Final = (1.0, 2.0, 3.0)
"""Standard errors that are kept in reserve, at first, and where what was chosen is not confirmed."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries of a kind, and their exact neighbours: some to choose by, others to confirm with."""

    tuning: QuerySet
    tuning_exact: Neighbours
    confirming: QuerySet
    confirming_exact: Neighbours

    @property
    def kind(self) -> QueryKind:
        """What the queries are."""
        kind = kind_of(self.tuning)
        assert kind is not None
        return kind


def choose(
    searcher: Searcher,
    asked: Asked,
    spread: Spread | None,
    k: int,
    promise: Promise,
    stops: Stopping = "auto",
) -> Setting:
    """Returns the cheapest setting that keeps a promise, as it is confirmed on other queries.

    Args:
        searcher: the generation, with its index.
        asked: the queries.
        spread: of the lists; None: no query is to stop by itself.
        k: results that recall is of.
        promise: what is to be kept.
        stops: whether queries are to stop by themselves.

    Raises:
        UsageError: no setting keeps it.

    Cost: some dozen searches of all tuning queries.
    """
    for spare in _SPARE:
        setting = _Trials(searcher, asked, spread, k, promise, spare, stops).best()
        trial = tuned_so(searcher, setting, spread, k)
        found = shares(trial, asked.confirming, asked.confirming_exact, k, asked_of(asked.confirming, k))
        if promise.is_kept(found, -2.0):  # what others find may lie below by chance
            vectors = asked.confirming.vectors
            return replace(
                setting,
                recall=round(float(np.nanmean(found)), 4),
                tail=None if promise.tail is None else round(promise.tail_of(found), 4),
                codes=round(trial.codes_of(vectors, asked_of(asked.confirming, k)) / len(vectors), 1),
            )
    raise UsageError(
        f"what keeps {promise} on {len(asked.tuning.vectors)} queries ({asked.kind}) does not on others: give more "
        "queries"
    )


class _Trials:
    """Searches of tuning queries at settings."""

    def __init__(
        self,
        searcher: Searcher,
        asked: Asked,
        spread: Spread | None,
        k: int,
        promise: Promise,
        spare: float,
        stops: Stopping,
    ) -> None:
        self._searcher, self._asked, self._spread, self._k = searcher, asked, spread, k
        self._promise, self._spare, self._stops = promise, spare, stops
        self._best_found = 0.0

    def best(self) -> Setting:
        """The cheapest setting that keeps the promise."""
        kept: list[Setting] = []
        fewest = 1
        shortlists = SHORTLISTS if self._searcher.refines else SHORTLISTS[:1]
        for shortlist in reversed(shortlists):  # a longer one never needs more lists
            lists = self._fewest_lists(shortlist, fewest)
            if lists is None:
                break
            fewest = lists
            kept.append(self._counted(self._setting(lists, shortlist)))
        if not kept:
            raise UsageError(
                f"no setting keeps {self._promise} for {self._asked.kind} queries: the best finds "
                f"{math.floor(1000 * self._best_found) / 1000:.3f} on average, and what is promised is to be kept with "
                f"{self._spare:g} standard error{'s' * (self._spare > 1)} to spare; ask for less, or build with more "
                "bytes a code, or with --refine-store f16"
            )
        best = min(kept, key=self._nanoseconds)
        stopping = self._stopping(best)
        if stopping is None or stopping.codes >= best.codes:
            return best
        pays = self._stops == "always" or self._nanoseconds(stopping) < self._nanoseconds(best)
        return stopping if pays else best

    def _nanoseconds(self, setting: Setting) -> float:
        trained = self._searcher.generation.trained
        is_pq = IndexKey.parse(trained.key).storage.startswith("PQ")
        of_code = _CODE_NS + (_PQ_BYTE_NS if is_pq else _BYTE_NS) * trained.code_size
        looked_at = min(CANDIDATES * setting.nprobe, trained.nlist)
        of_stop = 0.0 if setting.margin is None else _STOP_NS + looked_at * _LOOK_NS
        return setting.codes * of_code + setting.shortlist * _READ_NS + of_stop

    def _setting(self, nprobe: int, shortlist: int, margin: float | None = None) -> Setting:
        one = self._asked.tuning.asked
        modality = one.modality or self._searcher.generation.only_modality
        return Setting(self._asked.kind, modality, nprobe, shortlist, margin, 0.0, None, 0.0)

    def _keeps(self, setting: Setting) -> tuple[bool, float]:
        trial = tuned_so(self._searcher, setting, self._spread, self._k)
        asked = self._asked
        found = shares(trial, asked.tuning, asked.tuning_exact, self._k, asked_of(asked.tuning, self._k))
        mean = float(np.nanmean(found))
        self._best_found = max(self._best_found, mean)
        return self._promise.is_kept(found, self._spare), mean

    def _fewest_lists(self, shortlist: int, fewest: int) -> int | None:
        """The fewest lists, and no fewer than that, with which the promise is kept; None: with all it is not."""
        trained = self._searcher.generation.trained
        numbers, before = _numbers(fewest, trained.nlist), -1.0
        low, high = -1, 0
        while True:
            kept, mean = self._keeps(self._setting(numbers[high], shortlist))
            if kept:
                break
            is_flat = numbers[high] > 2 * trained.nprobe and mean < before + _FLAT
            if high == len(numbers) - 1 or is_flat:
                return None
            low, before = high, mean
            high = next((at for at in range(low, len(numbers)) if numbers[at] >= 2 * numbers[low]), len(numbers) - 1)
        between = numbers[low + 1 : high]
        return [*between, numbers[high]][
            _first(len(between), lambda place: self._keeps(self._setting(between[place], shortlist))[0])
        ]

    def _stopping(self, best: Setting) -> Setting | None:
        """The same with the smallest margin that keeps the promise; None: queries cannot stop by themselves."""
        if self._spread is None or self._stops == "never":
            return None

        def at(step: int) -> Setting:
            return replace(best, margin=round(_LOWEST + step * _FINE, 4))

        steps = round((_HIGHEST - _LOWEST) / _FINE)
        step = _first(steps, lambda step: self._keeps(at(step))[0])
        return None if step == steps else self._counted(at(step))

    def _counted(self, setting: Setting) -> Setting:
        """The same with the codes that a query scans."""
        trial, tuning = tuned_so(self._searcher, setting, self._spread, self._k), self._asked.tuning
        return replace(setting, codes=trial.codes_of(tuning.vectors, asked_of(tuning, self._k)) / len(tuning.vectors))


def tuned_so(searcher: Searcher, setting: Setting, spread: Spread | None, k: int) -> Searcher:
    """Returns the same generation as it is searched with a setting, and a spread of its lists."""
    index = searcher.index
    if isinstance(index, OpenIndex):
        index = replace(index, spread=spread)
    return searcher.over(index, Tuned(k, None, None, (setting,)))


def _numbers(fewest: int, nlist: int) -> list[int]:
    """Numbers of lists, from the fewest to all."""
    numbers = [fewest]
    while numbers[-1] < nlist:
        numbers.append(min(nlist, max(numbers[-1] + 1, round(numbers[-1] * _LISTS_FINE))))
    return numbers


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first number below `count` for which it holds, where it holds for all that follow; `count`: for none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
