"""What is ahead of a run, as a forecast has it: what a time left rests on where nothing was seen yet."""

from collections.abc import Mapping

from transforms.errors import PixdexError
from transforms.forecast import rates
from transforms.forecast.work import stage_costs
from transforms.forecast.workload import Machines, Workload
from transforms.index.index_key import IndexKey
from transforms.runs.run import Run, Stage

_ITEM_BYTES = 1
"""Of a picture: only that there are pictures counts, for how long they take is seen."""


def expected(run: Run, workers: int = 1) -> Mapping[Stage, float]:
    """Returns the seconds that stages of a run will take, as `pixdex plan` reckons; its plan must be there.

    Of a reindex there is none; of embedding with an encoder neither, for its rate is seen. Rates are those that were
    measured on this machine (`pixdex plan --calibrate`), or those of a usual one: how far off they are is seen when the
    first stages are done.
    """
    request, plan = run.request, run.plan
    if request.reindex is not None or not plan.rows:
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
    try:
        known = rates.load() or rates.DEFAULT
    except PixdexError:  # measured by another pixdex
        known = rates.DEFAULT
    machines = Machines(workers, request.encoder.threads)
    unknown = ("plan",) if request.is_ready else ("plan", "embed")
    return {cost.stage: cost.seconds(known, machines) for cost in stage_costs(load) if cost.stage not in unknown}
