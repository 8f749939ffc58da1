"""Makes events of looks at a run: which stage begins, goes on, and has ended, how fast, and for how long still."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from pipelines.terminal.progress import estimate
from pipelines.terminal.progress.ahead import Ahead
from pipelines.terminal.progress.estimate import Part, Rate
from pipelines.terminal.progress.words import PHASES, STEPS, Event, Kind, Phase
from transforms.forecast.paces import OVERHEAD
from transforms.runs.progress import RunLook, StageProgress
from transforms.runs.run import STAGES, Stage

NOT_OF_THIS_PACE: Final = ("plan", "embed")
"""Of stages whose pace says nothing of those behind them: sources, graphs and encoders have their own."""

Forecast = Callable[[], Ahead]


class Follower:
    """Follows a run up to a stage, from its first look on."""

    def __init__(self, last: Stage = "publish", forecast: Forecast = Ahead) -> None:
        """Takes what is asked for once, when the run is planned: the seconds that its stages are expected to take."""
        self._stages = STAGES[: STAGES.index(last) + 1]
        self._phases = [phase for phase in PHASES if phase.stages[0] in self._stages]
        self._forecast, self._ahead = forecast, Ahead()
        self._is_planned = False
        self._first: float | None = None
        self._before: dict[Stage, float] = {}
        self._rates: dict[Stage, Rate] = {}
        self._took: dict[Stage, float] = {}
        self._joined: frozenset[Stage] = frozenset()
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._latest: Event | None = None

    def take(self, look: RunLook, now: float) -> Iterator[Event]:
        """Yields what a look shows that the looks before did not; `now` is in seconds since the epoch."""
        first = self._first is None
        if self._first is None:
            self._first = now
        seen = {each.stage: each for each in look.stages}
        if not self._is_planned and look.current is not None and look.current.stage != "plan":
            self._is_planned = True
            self._ahead = self._forecast()
        for stage, each in seen.items():
            if stage not in self._rates:
                # Only of the stage that is at work at the first look can something be done before.
                self._before[stage], self._rates[stage] = (each.share or 0.0) if first else 0.0, Rate()
                if not first:
                    self._rates[stage].add(self._began(stage, seen), 0.0)
            self._rates[stage].add(now, each.done)
        parts = {stage: self._part(stage, seen, now) for stage in self._stages}
        self._keep(seen, parts, joined=first)
        for phase in self._phases:
            own = [seen[stage] for stage in phase.stages if stage in seen]
            if phase.name in self._ended or not own:
                continue
            is_over = len(own) == len(phase.stages) and all(each.finished is not None for each in own)
            # A trained index that is taken over is not trained: of its stages only the last has a task.
            is_taken_over = len(own) > 1 and len(own) == len(phase.stages) and all(each.is_empty for each in own[:-1])
            has_work = not is_taken_over and any(_has_work(each) for each in own)
            if has_work and phase.name not in self._begun:
                self._begun.add(phase.name)
                yield self._event("begin", look, phase, own, parts, now)
            if phase.name in self._begun:
                self._latest = self._event("end" if is_over else "progress", look, phase, own, parts, now)
                yield self._latest
            if is_over:
                self._ended.add(phase.name)

    @property
    def latest(self) -> Event | None:
        """The last event of the stage that is, or was, at work."""
        return self._latest

    @property
    def took(self) -> Mapping[Stage, float]:
        """Seconds of the stages that were seen from their beginning to their end."""
        return self._took

    def stop(self, now: float) -> Event | None:
        """Returns what says that nobody looks on any more; None where no stage is at work."""
        latest = self._latest
        return None if latest is None or latest.kind == "end" else replace(latest, kind="stopped", at=now)

    def _keep(self, seen: Mapping[Stage, StageProgress], parts: Mapping[Stage, Part], *, joined: bool) -> None:
        if joined:
            self._joined = frozenset(seen)
        for stage in seen.keys() - self._joined - self._took.keys():
            each, forecast = seen[stage], self._ahead.seconds.get(stage, 0.0)
            # What was expected to be work and had no task was taken over: it says nothing of the machine.
            if each.finished is not None and not (each.is_empty and forecast > OVERHEAD):
                self._took[stage] = parts[stage].spent

    def _told(self, parts: Mapping[Stage, Part]) -> Mapping[Stage, Part]:
        """The parts, without their forecasts where these are not to be told yet."""
        if self._ahead.is_of_here or estimate.is_told(list(parts.values())):
            return parts
        return {stage: replace(part, expected=None) for stage, part in parts.items()}

    def _part(self, stage: Stage, seen: Mapping[Stage, StageProgress], now: float) -> Part:
        expected = self._ahead.seconds.get(stage)
        counts = stage not in NOT_OF_THIS_PACE
        if stage not in seen:
            return Part(expected, counts=counts)
        each = seen[stage]
        rate, began = self._rates[stage], self._began(stage, seen)
        left = None if each.planned is None else rate.left(now, each.planned)
        spent = max(0.0, (now if each.finished is None else each.finished) - began)
        return Part(expected, spent, self._before[stage], each.share, left, counts)

    def _began(self, stage: Stage, seen: Mapping[Stage, StageProgress]) -> float:
        """When a stage began, or the first look was."""
        assert self._first is not None
        before = [seen[each].finished for each in STAGES[: STAGES.index(stage)] if each in seen]
        return max(self._first, *(finished for finished in before if finished is not None), 0.0)

    def _event(
        self,
        kind: Kind,
        look: RunLook,
        phase: Phase,
        own: list[StageProgress],
        parts: Mapping[Stage, Part],
        now: float,
    ) -> Event:
        told = self._told(parts)
        current, pace = own[-1], estimate.speed(list(told.values()))
        began = self._began(phase.stages[0], {each.stage: each for each in look.stages})
        is_over = kind == "end"
        seconds = max(0.0, (current.finished if is_over and current.finished is not None else now) - began)
        # Of what was done before anybody looked, nobody knows how long it took.
        was_there = current.finished is not None and self._first is not None and current.finished <= self._first
        left = [estimate.left_of(told[stage], pace) for stage in phase.stages if stage in told]
        rate = self._mean(current, seconds) if is_over else self._rates[current.stage].per_second(now)
        done, planned = self._counts(phase, own)
        return Event(
            kind=kind,
            at=now,
            stage=phase.name,
            done=done,
            planned=done if is_over else planned,
            unit=phase.unit,
            share=1.0 if is_over else self._share(phase, parts),
            step=STEPS.get(current.stage) if len(phase.stages) > 1 and not is_over else None,
            rate=None if len(phase.stages) > 1 else rate,
            left=0.0 if is_over else None if any(each is None for each in left) else sum(each or 0.0 for each in left),
            all_left=estimate.all_left(list(told.values())),
            rejected=max(each.rejected for each in own),
            seconds=None if was_there and len(own) == len(phase.stages) else seconds,
            generation=look.generation,
        )

    def _mean(self, current: StageProgress, seconds: float) -> float | None:
        gained = current.done * (1 - self._before[current.stage])
        return gained / seconds if gained and seconds > 0 else None

    @staticmethod
    def _counts(phase: Phase, own: list[StageProgress]) -> tuple[int, int | None]:
        if len(phase.stages) > 1:
            return sum(each.finished is not None for each in own), len(phase.stages)
        each = own[-1]
        return int(each.done), None if each.planned is None else int(each.planned)

    @staticmethod
    def _share(phase: Phase, parts: Mapping[Stage, Part]) -> float | None:
        weighed = [(parts[stage].expected or 1.0, parts[stage].share) for stage in phase.stages]
        if len(weighed) == 1:
            return weighed[0][1]
        return min(0.999, sum(weight * (share or 0.0) for weight, share in weighed) / sum(w for w, _ in weighed))


def _has_work(each: StageProgress) -> bool:
    """Tells whether there is, or was, something to do, as far as anybody knows; a source is listed in any case."""
    return each.stage == "plan" or bool(each.tasks or (each.planned and each.finished is None))


class PartsFollower:
    """Follows work that is one stage, of so many parts."""

    def __init__(self, stage: str, look: Callable[[], tuple[int, int | None]]) -> None:
        """Takes its name, and what says how many parts are done, and of how many."""
        self._stage, self._look, self._rate = stage, look, Rate()
        self._first: float | None = None
        self._latest: Event | None = None

    def take(self, now: float) -> Iterator[Event]:
        """Looks, and yields what there is to say."""
        if self._latest is not None and self._latest.kind == "end":
            return
        done, planned = self._look()
        self._rate.add(now, done)
        if self._first is None:
            self._first = now
            yield self._event("begin", now, done, planned)
        is_over = planned is not None and done >= planned
        self._latest = self._event("end" if is_over else "progress", now, done, planned)
        yield self._latest

    def stop(self, now: float) -> Event | None:
        """As of a run."""
        latest = self._latest
        return None if latest is None or latest.kind == "end" else replace(latest, kind="stopped", at=now)

    def _event(self, kind: Kind, now: float, done: int, planned: int | None) -> Event:
        left = None if planned is None else self._rate.left(now, planned)
        assert self._first is not None
        share = None if planned is None else 1.0 if not planned else min(1.0, done / planned)
        rate, seconds = self._rate.per_second(now), now - self._first
        left = 0.0 if kind == "end" else left
        return Event(kind, now, self._stage, done, planned, "parts", share, None, rate, left, left, seconds=seconds)
