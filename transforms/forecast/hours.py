"""How long each stage of a build takes on some workers, and which of them is the bottleneck."""

from dataclasses import dataclass, replace

from transforms.forecast import memory as sizing
from transforms.forecast.memory import TaskMemory
from transforms.forecast.rates import Rates
from transforms.forecast.work import StageCost, stage_costs
from transforms.forecast.workload import Machines, Workload
from transforms.runs.run import STAGES, Stage


@dataclass(frozen=True)
class StageForecast:
    """A stage, its hungriest task, and its seconds; None where the rate of the encoder is not known."""

    cost: StageCost
    memory: TaskMemory | None
    seconds: float | None


@dataclass(frozen=True)
class Forecast:
    """A whole build."""

    load: Workload
    machines: Machines
    rates: Rates
    stages: tuple[StageForecast, ...]

    @property
    def seconds(self) -> float:
        """From the command to the last marker, without embedding where its rate is not known."""
        return self.rates.start_seconds + sum(stage.seconds or 0.0 for stage in self.stages)

    @property
    def embedding(self) -> float | None:
        """Seconds of embedding; None where its rate is not known, and neither `seconds` nor `bottleneck` count it."""
        return next(stage.seconds for stage in self.stages if stage.cost.stage == "embed")

    @property
    def bottleneck(self) -> Stage:
        """The stage that takes the longest, of those that are counted."""
        return max(self.stages, key=lambda stage: stage.seconds or 0.0).cost.stage


def forecast(load: Workload, machines: Machines, rates: Rates, items_per_second: float | None = None) -> Forecast:
    """Returns what a build takes, stage by stage.

    Args:
        load: what is to be built.
        machines: the workers.
        rates: of one of them.
        items_per_second: what one worker embeds, where pictures are to be embedded.
    """
    peaks = sizing.stage_memory(load, machines.at_a_time)
    stages = []
    for cost in stage_costs(load):
        kind = _MEMORY_OF.get(cost.stage)
        there = _reading(cost, load, machines, rates)
        seconds: float | None = cost.seconds(rates, there)
        if cost.stage == "embed" and load.item_bytes is not None:
            seconds = items_per_second and cost.seconds(
                rates, machines, _encoding(cost, load, machines, items_per_second)
            )
        if cost.stage == "plan":
            seconds = cost.seconds(rates, there) + (0.0 if machines.is_one_process else rates.graph_seconds)
        stages.append(StageForecast(cost, peaks[kind] if kind else None, seconds))
    return Forecast(load, machines, rates, tuple(stages))


def _reading(cost: StageCost, load: Workload, machines: Machines, rates: Rates) -> Machines:
    """What a stage finds that reads all vectors: those that do not fit the page cache come from the disk each time."""
    if machines.bandwidth is not None or machines.cache is None or not machines.cache < load.stored <= cost.reads:
        return machines
    return replace(machines, bandwidth=round(rates.disk_bytes))


def _encoding(cost: StageCost, load: Workload, machines: Machines, items_per_second: float) -> float:
    """Seconds of the encoder: a worker has one, whatever the tasks that feed it."""
    return -(-cost.tasks // machines.workers) * load.rows / cost.tasks / items_per_second


_MEMORY_OF = {
    "sample": "sample",
    **dict.fromkeys(STAGES[STAGES.index("parents") : STAGES.index("add")], "train"),
    "add": "add",
    "tier": "merge",
    "merge": "merge",
}
