"""The time left, told again of builds that were: a million ready vectors of 64 components, IVF4096,PQ16, two cores."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest

from pipelines.terminal.progress.ahead import Ahead
from pipelines.terminal.progress.follow import Follower
from transforms.forecast.paces import Paces
from transforms.forecast.rates import DEFAULT
from transforms.forecast.work import stage_costs
from transforms.forecast.workload import Machines, Workload
from transforms.index.index_key import IndexKey
from transforms.runs.progress import Embedded, RunLook, StageProgress, unit_of
from transforms.runs.run import STAGES, Stage

TASKS: Mapping[Stage, int] = {"embed": 16, "sample": 16, "route": 16, "cells": 3, "pass1": 3, "pass2": 3, "add": 16}
"""Of others there is one."""


@dataclass(frozen=True)
class Trace:
    """Seconds that stages took, in order, as the last line of a build says them."""

    seconds: tuple[float, ...]

    @classmethod
    def of(cls, text: str) -> "Trace":
        return cls(tuple(map(float, text.split())))


def forecast() -> dict[Stage, float]:
    load = Workload(
        key=IndexKey.parse("IVF4096,PQ16"),
        metric="ip",
        rows=1_000_000,
        dim=64,
        item_bytes=None,
        normalized=True,
        object_store=False,
        refine="f16",
    )
    return {cost.stage: cost.seconds(DEFAULT, Machines(1, 2)) for cost in stage_costs(load) if cost.stage != "plan"}


def of_a_usual_machine() -> Ahead:
    return Ahead(forecast())


def after(trace: Trace) -> Ahead:
    """What is expected on a machine that did a run before."""
    took: dict[Stage, float] = dict(zip(STAGES, trace.seconds, strict=True))
    kept = Paces("these rates").with_run(took, forecast()).stages
    return Ahead({stage: kept[stage].of(each) for stage, each in forecast().items()}, is_of_here=True)


def looks(seconds: Sequence[float]) -> Iterator[tuple[float, RunLook]]:
    """What is seen each half second: a task has its marker when its part of the seconds of its stage is over."""
    at, ends = 0.0, [sum(seconds[: place + 1]) for place in range(len(seconds))]
    while at < ends[-1]:
        current = next(place for place, end in enumerate(ends) if at < end)
        stages = [
            StageProgress(stage, unit_of(stage), tasks, tasks, tasks, finished=end)
            for stage, end, tasks in zip(STAGES[:current], ends, (TASKS.get(each, 1) for each in STAGES), strict=False)
        ]
        stage, tasks = STAGES[current], TASKS.get(STAGES[current], 1)
        done = int(tasks * (1 - (ends[current] - at) / seconds[current]))
        stages.append(StageProgress(stage, unit_of(stage), done, None if stage == "plan" else tasks, done))
        yield at, RunLook(1, tuple(stages), Embedded(), None)
        at += 0.5


def said(trace: Trace, expected: Callable[[], Ahead] = of_a_usual_machine) -> list[tuple[Stage, float, float]]:
    """At each look from the plan on: the stage, the seconds that were left, and those that were said to be."""
    follower, total, told = Follower("publish", expected), sum(trace.seconds), []
    for at, look in looks(trace.seconds):
        for event in follower.take(look, at):
            assert look.current is not None
            if event.all_left is not None and event.kind != "end":
                told.append((look.current.stage, total - at, event.all_left))
    return told


MEASURED = (
    Trace.of(".62 .30 .04 .02 .01 .66 1.91 .67 1.49 .76 .08 1.04 .07 2.77 15.55 .01 .06 .34 .17"),
    Trace.of(".25 .14 .02 .01 .01 .28 .31 .28 .86 .50 .03 .44 .02 .87 5.29 .01 .02 .34 .05"),
)
"""On two cores that four other processes kept busy; and on two with nothing else to do."""

FREED = Trace((*MEASURED[0].seconds[:13], 5.0, 12.0, *MEASURED[0].seconds[15:]))
"""Made up: as if most of the other work had ended while codes were trained."""


@pytest.mark.parametrize("trace", [*MEASURED, FREED])
def test_what_is_ahead_is_told_within_a_factor_and_what_is_at_work_well(trace: Trace) -> None:
    told = said(trace)
    adding, compacting = (sum(trace.seconds[: STAGES.index(stage)]) for stage in ("add", "compact"))
    total = sum(trace.seconds)
    known = total - adding - 4 / 16 * trace.seconds[STAGES.index("add")]  # four blocks are there
    for stage, left, guess in told:
        if STAGES.index(stage) > STAGES.index("route") and left > total - compacting:
            assert 0.4 < guess / left < 2.5, (stage, left, guess)
        if stage == "add" and left < known:
            assert abs(guess - left) < max(0.3 * left, 1.5), (left, guess)


@pytest.mark.parametrize("trace", MEASURED)
def test_a_usual_machines_forecast_is_not_told_before_anything_of_the_run_was_seen(trace: Trace) -> None:
    stages = [stage for stage, _, _ in said(trace)]
    assert stages and not {"embed", "keys", "tombstones", "drift", "sample"} & set(stages)


def test_what_earlier_runs_took_here_is_told_from_the_plan_on() -> None:
    trace = MEASURED[1]
    told = said(trace, lambda: after(trace))
    planned = sum(trace.seconds) - trace.seconds[0]
    assert told[0][1] > planned - 0.6  # at the first look behind the plan
    for stage, left, guess in told:
        if STAGES.index(stage) < STAGES.index("add"):
            assert abs(guess - left) < 0.2 * left, (stage, left, guess)


def test_training_codes_is_no_moment() -> None:
    assert forecast()["train"] > 0.5  # most of it on one thread
