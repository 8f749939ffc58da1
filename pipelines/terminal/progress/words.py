"""What stages, and what is done of them, are called where a person reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from transforms.runs.run import STAGES, Stage

Kind = Literal["begin", "progress", "end", "stopped"]


@dataclass(frozen=True)
class Phase:
    """Some stages of a run that are one thing to a person, and what that is counted in."""

    name: str
    stages: tuple[Stage, ...]
    unit: str


_TRAIN: Final = STAGES[STAGES.index("sample") : STAGES.index("train") + 1]

PHASES: Final = (
    Phase("plan", ("plan",), "items"),
    Phase("embed", ("embed",), "items"),
    Phase("keys", ("keys",), "key tables"),
    Phase("tombstones", ("tombstones",), "folders"),
    Phase("drift", ("drift",), "measurements"),
    Phase("train", _TRAIN, "steps"),
    Phase("add", ("add",), "vectors"),
    Phase("compact", ("compact",), "blocks"),
    Phase("first merge", ("tier",), "files"),
    Phase("merge", ("merge",), "vectors"),
    Phase("publish", ("publish",), "generations"),
)
"""In their order."""

STEPS: Final[Mapping[Stage, str]] = {
    "sample": "drawing the sample",
    "parents": "training transforms and parents of the lists",
    "route": "sorting the sample",
    "cells": "clustering",
    "pass1": "improving the lists, first pass",
    "move1": "moving the lists, first pass",
    "pass2": "improving the lists, second pass",
    "move2": "moving the lists, second pass",
    "train": "training codes, and checking",
}
"""The steps of a phase that has several."""


@dataclass(frozen=True)
class Event:
    """Something that is worth a word.

    Attributes:
        kind: a stage begins, goes on, has ended, or was left before it ended.
        at: seconds since the epoch.
        stage: name of a phase.
        done, planned: in `unit`; planned is None while nobody knows it.
        share: that is done, 0 to 1, weighed by how long parts take; None while nobody knows.
        step: which part of it is at work.
        rate: `unit` a second.
        left, all_left: seconds until the stage, and until the whole command, is done.
        seconds: since it began, or since it was first looked at; None: it was done before.
    """

    kind: Kind
    at: float
    stage: str
    done: int
    planned: int | None
    unit: str
    share: float | None = None
    step: str | None = None
    rate: float | None = None
    left: float | None = None
    all_left: float | None = None
    rejected: int = 0
    seconds: float | None = None
    generation: int | None = None


def duration(seconds: float) -> str:
    """Returns seconds as a clock shows them.

    >>> duration(0.2), duration(75), duration(3700), duration(200_000)
    ('0:00', '1:15', '1:01:40', '2d 7:33:20')
    """
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, minutes = divmod(rest // 60, 60)
    clock = f"{hours}:{minutes:02}:{rest % 60:02}" if hours or days else f"{minutes}:{rest % 60:02}"
    return f"{days}d {clock}" if days else clock


def count(event: Event) -> str:
    """Returns what is done of what.

    >>> count(Event("progress", 0, "embed", 812, 1609, "items")), count(Event("end", 0, "plan", 1, 1, "items"))
    ('812 of 1,609 items', '1 item')
    """
    if event.planned is None:
        return f"{event.done:,} {_unit(event.unit, event.done)}" if event.done else ""
    if event.kind == "end" and event.done == event.planned:
        return f"{event.done:,} {_unit(event.unit, event.done)}"
    return f"{event.done:,} of {event.planned:,} {_unit(event.unit, event.planned)}"


def percent(share: float) -> str:
    """Returns a share in whole percents, 100 only where nothing is left."""
    return f"{int(100 * share)} %"


def rate_text(event: Event) -> str:
    """Returns a rate, none where it says nothing."""
    if event.rate is None or event.unit not in ("items", "vectors", "parts"):
        return ""
    digits = 0 if event.rate >= 10 else 1 if event.rate >= 1 else 2
    return f"{event.rate:,.{digits}f} {event.unit}/s"


def left_text(event: Event) -> str:
    """Returns how long it still takes, of the stage and of all; nothing where nobody knows."""
    own = "" if event.left is None else f"{duration(event.left)} left"
    if event.all_left is None:
        return own
    return f"{own}, {duration(event.all_left)} in all" if own else f"{duration(event.all_left)} left in all"


def tail(event: Event) -> str:
    """Returns all that is said of an event behind its stage and its share."""
    parts = [count(event), event.step or "", rate_text(event)]
    if event.rejected:
        parts.append(f"{event.rejected:,} rejected")
    if event.kind == "end":
        parts.append("done before" if event.seconds is None else f"in {duration(event.seconds)}")
    else:
        parts.append(left_text(event))
    return "  ".join(filter(None, parts))


def line(event: Event) -> str:
    """Returns an event as a line of a log.

    >>> line(Event("end", 0, "embed", 1609, 1609, "items", 1.0, rate=97.2, rejected=7, seconds=16.6))
    'embed        100 %  1,609 items  97 items/s  7 rejected  in 0:17'
    """
    share = "…" if event.share is None else percent(event.share)
    return f"{event.stage:<11}  {share:>5}  {tail(event)}".rstrip()


def place(event: Event) -> str:
    """Returns where a run is, in a few words.

    >>> place(Event("progress", 0, "embed", 812, 1609, "items", 0.5)), place(Event("end", 0, "add", 9, 9, "vectors"))
    ('embed, 812 of 1,609 items', 'add is done')
    """
    if event.kind == "end":
        return f"{event.stage} is done"
    return ", ".join(filter(None, [event.stage, count(event)]))


def _unit(unit: str, number: int) -> str:
    return unit.removesuffix("s") if number == 1 else unit
