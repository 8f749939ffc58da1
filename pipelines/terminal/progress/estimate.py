"""How fast it goes, and how long it will still take. Pure arithmetic over looks; times are in seconds."""

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from transforms.forecast.paces import OVERHEAD

WINDOW: Final = 30.0
"""What is longer ago says nothing of how fast it goes, as long as enough happened since."""

_CHANGES: Final = 4
"""So many steps a rate rests on, at least, where there were as many: shards may take minutes each."""

_SAMPLES: Final = 512
_NEVER: Final = 1e9
"""Seconds, 30 years."""

_OVERDUE: Final = 0.15
"""What takes longer than was expected takes, for all that one knows, so much of what it took once more."""

_FAR_OFF: Final = 2.0
"""Times what is usual."""

_ENOUGH: Final = 0.2
"""Share of a part after which its own rate is all that counts: a first task also opens what all of them use."""

_PACES: Final = (0.5, 3.0)
"""What was seen for few seconds says no less, and no more, of other parts: what a part takes beside its work, and a
moment in which the machine was busy, count much there."""

_LONG: Final = 60.0
"""Seconds of what was seen after which it may say twice as much."""

_SURE: Final = 0.25
"""Seconds of a forecast that stand for its worth, when it is compared with what was seen."""

_SURE_SHARE: Final = 0.15
"""Share of a whole forecast that stands for its worth, if that is more: the first parts read files and take new memory,
which may be slow or fast for reasons of its own. With less they tell too much of the others, with more a machine
that is slow everywhere is noticed late."""

_TOLD: Final = 0.05
"""Share of what only a usual machine's forecast speaks of, that has to be seen before it is told."""

_TOLD_SECONDS: Final = 5.0
"""Seconds of a forecast that are enough in any case."""

_LITTLE: Final = 0.5
"""Times what is known by its own rate: so much may rest on a forecast that may be off."""


@dataclass
class Rate:
    """How much is done a second, over a sliding window; what was there at the first look does not count.

    Work comes in steps, a shard or a block: the time since the last one is that of the next, which is not known yet.
    """

    window: float = WINDOW
    _steps: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def add(self, at: float, done: float) -> None:
        """Takes what is done at a time; less than before, and a time that is not later, is taken for no change."""
        if not self._steps:
            self._steps.append((at, done))
        elif done > self._steps[-1][1] and at > self._steps[-1][0]:
            self._steps.append((at, done))
            while len(self._steps) > _CHANGES + 1 and self._steps[1][0] < at - self.window:
                self._steps.popleft()

    @property
    def done(self) -> float:
        """What is done; 0 before the first look."""
        return self._steps[-1][1] if self._steps else 0.0

    def per_second(self, now: float) -> float | None:
        """Returns the rate; None while nothing has been done."""
        if len(self._steps) < 2:
            return None
        (first, before), (last, done) = self._steps[0], self._steps[-1]
        usual = (last - first) / (len(self._steps) - 1)
        waited = max(0.0, now - last - usual)  # the next step is late: it is slower than it was
        return (done - before) / (last - first + waited)

    def left(self, now: float, planned: float) -> float | None:
        """Returns the seconds until all of it is done, never fewer than 0; None while nobody can say."""
        rate = self.per_second(now)
        if not rate:
            return None
        last, done = self._steps[-1]
        usual = (last - self._steps[0][0]) / (len(self._steps) - 1)
        at_work = min(max(0.0, now - last), usual)  # on the next step, of which nothing is seen
        left = max(0.0, (planned - done) / rate - at_work)
        return left if left < _NEVER else None


@dataclass(frozen=True)
class Part:
    """A part of a run.

    Attributes:
        expected: seconds that a forecast gives it; None: there is none.
        spent: seconds that were spent on it since the first look.
        before: share of it that was done at the first look, 0 to 1.
        share: that is done now; None: nobody knows, and it has begun.
    """

    expected: float | None
    spent: float = 0.0
    before: float = 0.0
    share: float | None = 0.0
    left: float | None = None
    """By its own rate, where it has one."""
    counts: bool = True
    """Whether what it took says how good the forecast is of other parts."""

    @property
    def gained(self) -> float:
        """The share that was done since the first look."""
        return max(0.0, (self.share or 0.0) - self.before)


def speed(parts: list[Part]) -> float:
    """Returns how many seconds one of the forecast takes here, as far as parts were seen; 1 before any was.

    One part that takes far longer than the others, as forecasts go, says that its own forecast is bad.

    >>> round(speed([Part(10, spent=20, share=1.0), Part(5)]), 2)
    1.82
    """
    forecasts = [part.expected for part in parts if part.expected is not None and part.expected > OVERHEAD]
    worth = max(_SURE, _SURE_SHARE * sum(forecasts))
    seen = [each for each in map(_seen_of, parts) if each is not None]
    pace = _pace(seen, worth)
    # One that is not done takes at least as long as it has: less than the pace of others says nothing.
    late = [each for each in map(_late_of, parts) if each is not None and each[0] > pace * each[1]]
    pace = _pace([*seen, *late], worth)
    wider = 1 + sum(spent for spent, _ in (*seen, *late)) / _LONG
    return min(max(pace, _PACES[0] / wider), _PACES[1] * wider)


def _pace(seen: list[tuple[float, float]], worth: float) -> float:
    """Seconds that were spent over those that were expected, and as many of both as the forecast is worth."""
    usual = _weighted_median([(_SURE, _SURE), *seen])
    spent = sum(min(spent, _FAR_OFF * usual * expected) for spent, expected in seen)
    return (worth + spent) / (worth + sum(expected for _, expected in seen))


def _weighted_median(seen: list[tuple[float, float]]) -> float:
    """The ratio of spent to expected seconds that half of the expected ones are at, or below."""
    ratios = sorted((spent / expected, expected) for spent, expected in seen)
    half = sum(expected for _, expected in seen) / 2
    passed = itertools.accumulate(expected for _, expected in ratios)
    return next(ratio for (ratio, _), so_far in zip(ratios, passed, strict=True) if so_far >= half)


def _seen_of(part: Part) -> tuple[float, float] | None:
    """The seconds that were spent on a part, and those of its forecast for that; None: it says nothing."""
    if not part.counts or part.expected is None or part.expected <= OVERHEAD:
        return None
    expected = part.expected * part.gained
    return (part.spent, expected) if expected > 0 else None


def _late_of(part: Part) -> tuple[float, float] | None:
    """The same of a part of which nothing is seen, but that it takes longer than was expected."""
    if not part.counts or part.expected is None or part.expected <= OVERHEAD or part.gained:
        return None
    expected = part.expected * (1 - part.before)
    return (part.spent, expected) if part.spent > expected > 0 else None


def left_of(part: Part, pace: float) -> float | None:
    """Returns the seconds that a part still takes; None where nobody can say.

    The more of it was seen, the less a forecast of it counts, and from a fifth on only what was seen does.
    """
    if part.share == 1.0:
        return 0.0
    if part.expected is None:
        return part.left
    if part.expected <= OVERHEAD:
        pace = 1.0
    forecast = part.expected * pace * (1 - (part.share or 0.0))
    if not part.gained:  # one task, of which nothing is seen: it goes on
        return max(part.expected * pace * (1 - part.before) - part.spent, _OVERDUE * part.spent)
    if part.left is None:
        return forecast
    sure = min(1.0, part.gained / _ENOUGH)
    return sure * part.left + (1 - sure) * forecast


def all_left(parts: list[Part]) -> float | None:
    """Returns the seconds that all parts still take, one after the other; None where nobody can say it of one."""
    pace = speed(parts)
    left = [left_of(part, pace) for part in parts]
    return None if any(each is None for each in left) else sum(each for each in left if each is not None)


def is_told(parts: list[Part]) -> bool:
    """Tells whether enough was seen to tell what is left, where forecasts are those of a usual machine.

    Enough is a twentieth of what nothing but the forecast speaks of; or that is little beside what has its own rate.
    """
    ahead = [each for each in parts if each.share != 1.0]
    bare = sum((each.expected or 0.0) * (1 - each.before) for each in ahead if not each.gained)
    seen = sum(spoken for _, spoken in filter(None, map(_seen_of, parts)))
    late = sum(spent for spent, _ in filter(None, map(_late_of, parts)))
    own = sum(each.left or 0.0 for each in ahead if each.gained)
    return seen + late >= min(_TOLD * bare, _TOLD_SECONDS) or bare <= _LITTLE * own
