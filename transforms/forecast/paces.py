"""How long stages really took on this machine, beside what a forecast gave them: what the next forecast starts from.

Rates are of a usual machine, or of a few seconds of calibration; a run says how long a stage takes here, with all that
nobody counted. It is kept below the user's cache folder, and only times that are left rest on it: what `pixdex plan`
says is the forecast itself.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from transforms.errors import PixdexError
from transforms.forecast.rates import Rates
from transforms.record_json import decode, encode
from transforms.records import FORMAT_VERSION
from transforms.runs.run import Stage
from transforms.storage import atomic
from transforms.storage.cache_folder import cache_folder
from transforms.storage.scratch import temporary_folder

OVERHEAD: Final = 0.2
"""Seconds: a stage that is expected to take no more is what a graph takes beside its work, and has no pace."""

WINDOW: Final = 60.0
"""Expected seconds of a stage that are remembered; those of later runs take the place of older ones."""

_SURE: Final = 0.02
"""Seconds of a forecast that stand for its worth, when it is compared with what was seen."""

_FACTOR: Final = 10.0
"""What other runs were beside their forecasts says no more, and no less, of one that may be of another shape."""

_BESIDE: Final = 5.0
"""Seconds at most that a stage is taken to need beside its work: more was a machine that stood still."""


@dataclass(frozen=True)
class Pace:
    """What a stage took in the latest runs.

    Attributes:
        spent, expected: seconds, in sum, of runs in which it was expected to take more than `OVERHEAD`.
        beside: seconds by which it took longer than expected in the others; None: there were none.
    """

    spent: float = 0.0
    expected: float = 0.0
    beside: float | None = None

    def of(self, expected: float) -> float:
        """Returns the seconds that it will take here, of those that a forecast gives it."""
        if expected <= OVERHEAD:
            return max(0.0, expected + (self.beside or 0.0))
        ratio = (self.spent + _SURE) / (self.expected + _SURE)
        return expected * min(max(ratio, 1 / _FACTOR), _FACTOR)

    def with_run(self, spent: float, expected: float) -> "Pace":
        """Returns it with one more run, of which so many seconds were spent, and expected, on the stage."""
        if expected <= OVERHEAD:
            more = min(max(spent - expected, -_BESIDE), _BESIDE)
            beside = more if self.beside is None else (self.beside + more) / 2
            return Pace(self.spent, self.expected, beside)
        taken = min(expected, WINDOW)
        kept = min(1.0, (WINDOW - taken) / self.expected) if self.expected else 0.0
        return Pace(self.spent * kept + spent * taken / expected, self.expected * kept + taken, self.beside)


@dataclass(frozen=True)
class Paces:
    """What is remembered, by the name of the stage.

    Attributes:
        beside: the rates that the forecasts rested on, as `of` says them: with other rates all of it is another.
    """

    beside: str
    stages: dict[Stage, Pace] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def with_run(self, took: Mapping[Stage, float], expected: Mapping[Stage, float]) -> "Paces":
        """Returns them with one more run: the seconds that stages took, and those that a forecast gave them."""
        stages = dict(self.stages)
        for stage in took.keys() & expected.keys():
            stages[stage] = stages.get(stage, Pace()).with_run(took[stage], expected[stage])
        return Paces(self.beside, stages)


def file() -> Path:
    """Returns where they are kept: below the user's cache folder."""
    return cache_folder() / "paces.json"


def load(rates: Rates) -> Paces:
    """Returns what is remembered of forecasts by these rates; what cannot be read is nothing."""
    beside = f"{rates.machine}, {rates.measured}"
    with contextlib.suppress(OSError, PixdexError):  # another pixdex's, or damaged: it is made again
        kept = decode(file().read_bytes(), Paces, str(file()))
        if kept.beside == beside:
            return kept
    return Paces(beside)


def save(paces: Paces) -> None:
    """Keeps them for later runs, where the cache folder can be written.

    Of two runs that end at once, one is remembered.
    """
    kept = file()
    with contextlib.suppress(OSError), temporary_folder(kept.parent) as folder:
        (folder / kept.name).write_bytes(encode(paces))
        atomic.replace(folder / kept.name, kept)
