"""What is ahead of a run, as a forecast has it: what a time left rests on where nothing was seen yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transforms.errors import PixdexError
from transforms.forecast import paces, rates
from transforms.forecast.paces import Pace
from transforms.forecast.rates import Rates
from transforms.forecast.work import stage_costs
from transforms.forecast.workload import Machines, Workload
from transforms.index.index_key import IndexKey
from transforms.runs.run import Run, Stage

_ITEM_BYTES = 1
"""Of a picture: only that there are pictures counts, for how long they take is seen."""


@dataclass(frozen=True)
class Ahead:
    """The seconds that stages of a run are expected to take, none where nobody knows.

    Attributes:
        is_of_here: whether this machine was measured, or seen doing most of it; else they are a usual machine's.
    """

    seconds: Mapping[Stage, float] = field(default_factory=dict)
    is_of_here: bool = False


def expected(run: Run, workers: int = 1) -> Ahead:
    """Returns the seconds that stages of a run will take; its plan must be there.

    They are those of `pixdex plan`, by rates that were measured on this machine (`pixdex plan --calibrate`) or those of
    a usual one, times what earlier runs took here beside their own (`forecast.paces`). Of a reindex there is none; of
    embedding with an encoder neither, for its rate is seen.
    """
    known = _rates()
    seconds = _forecast(run, workers, known)
    if not seconds:
        return Ahead()
    kept = paces.load(known).stages
    here = {stage: kept.get(stage, Pace()).of(each) for stage, each in seconds.items()}
    seen = sum(each for stage, each in seconds.items() if kept.get(stage, Pace()).expected)
    return Ahead(here, is_of_here=known is not rates.DEFAULT or seen >= sum(seconds.values()) / 2)


def remember(run: Run, took: Mapping[Stage, float], workers: int = 1) -> None:
    """Remembers how long stages of a run took that this machine did, for the times left of later ones."""
    known = _rates()
    seconds = _forecast(run, workers, known) if took else {}
    if seconds:
        paces.save(paces.load(known).with_run(took, seconds))


def _rates() -> Rates:
    try:
        return rates.load() or rates.DEFAULT
    except PixdexError:  # measured by another pixdex
        return rates.DEFAULT


def _forecast(run: Run, workers: int, known: Rates) -> Mapping[Stage, float]:
    request = run.request
    if request.reindex is not None or not (plan := run.plan).rows:
        return {}
    load = Workload(
        key=IndexKey.parse(plan.index_key),
        metric=request.index.metric,
        rows=plan.rows,
        dim=request.encoder.dim,
        item_bytes=None if request.is_ready else _ITEM_BYTES,
        normalized=request.encoder.normalize,
        object_store=run.store.local is None,
        refine=request.index.refine,
    )
    if not load.key.nlist:
        return {}
    machines = Machines(workers, request.encoder.threads)
    unknown = ("plan",) if request.is_ready else ("plan", "embed")
    return {cost.stage: cost.seconds(known, machines) for cost in stage_costs(load) if cost.stage not in unknown}
