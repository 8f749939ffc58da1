"""A plan for people, as tables with their arithmetic, and for programs, as values that JSON has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipelines.terminal import text_table
from pipelines.terminal.quantities import bytes_text, duration_text, rate_text
from pipelines.terminal.text_table import Column
from transforms.forecast.hours import Forecast, StageForecast
from transforms.forecast.rates import A_CORE, ASSUMED

_SMALL: Final = 0.001
"""Stages below this share of the whole are left out of the formulas."""


@dataclass(frozen=True)
class Watched:
    """recall@10 by codes that training measured: of so many queries, among so many rows, in `nprobe` lists each."""

    recall: float
    queries: int
    rows: int
    nprobe: int

    def __str__(self) -> str:
        """Says so."""
        among = f"{self.queries:,} queries among {self.rows:,} sampled rows, {self.nprobe:,} lists each"
        return f"{self.recall:.3f} by codes, as training measured it: {among}"


def as_json(forecast: Forecast, notes: Sequence[str], recall: Watched | None = None) -> dict[str, Any]:
    """Returns all of a plan; sizes are bytes, durations seconds (null: not known) and hours.

    Where `embedding` is null, the rate of the encoder is not known: `seconds`, `hours` and `bottleneck` leave it out.
    """
    load, machines, rates = forecast.load, forecast.machines, forecast.rates
    files, storage = load.files, load.storage
    return {
        "vectors": load.rows,
        "dim": load.dim,
        "metric": load.metric,
        "index_key": str(load.key),
        "nlist": load.key.nlist,
        "code_bytes": load.code,
        "sample_rows": load.sampled,
        "shards": load.shards,
        "partitions": load.shards,
        "blocks": load.blocks,
        "tiers": load.tiers,
        "pieces": load.pieces,
        "files": {**files, "total": sum(files.values())},
        "markers": load.markers,
        "storage_bytes": {**storage, "total": sum(storage.values())},
        "workers": machines.workers,
        "cores": machines.cores,
        "bandwidth_bytes": machines.bandwidth,
        "object_store": load.object_store,
        "worker_memory_bytes": max(stage.memory.bytes for stage in forecast.stages if stage.memory),
        "worker_disk_bytes": load.scratch * machines.at_a_time,
        "stages": [_stage_json(stage) for stage in forecast.stages],
        "seconds": round(forecast.seconds, 3),
        "hours": round(forecast.seconds / 3600, 6),
        "embedding": None if forecast.embedding is None else round(forecast.embedding, 3),
        "bottleneck": forecast.bottleneck,
        "recall": recall and round(recall.recall, 4),
        "rates": {"machine": rates.machine, "measured": rates.measured, "assumed": sorted(ASSUMED), **rates.values()},
        "notes": list(notes),
    }


def text_of(forecast: Forecast, notes: Sequence[str], recall: Watched | None = None) -> str:
    """Returns the same for people, with every formula."""
    parts = [_facts(forecast, recall), _stages(forecast), _formulas(forecast), _memory(forecast), _rates(forecast)]
    return "\n\n".join([*parts, *(f"note: {note}" for note in notes)])


def _stage_json(stage: StageForecast) -> dict[str, Any]:
    cost = stage.cost
    return {
        "stage": cost.stage,
        "tasks": cost.tasks,
        "reads_bytes": cost.reads,
        "writes_bytes": cost.writes,
        "memory_bytes": stage.memory.bytes if stage.memory else None,
        "seconds": None if stage.seconds is None else round(stage.seconds, 3),
    }


def _facts(forecast: Forecast, recall: Watched | None) -> str:
    load, machines = forecast.load, forecast.machines
    storage = {kind: size for kind, size in load.storage.items() if size}
    unknown = any(stage.seconds is None for stage in forecast.stages)
    network = f", {bytes_text(machines.bandwidth)}/s to the storage" if machines.bandwidth else ""
    disk = f", {bytes_text(load.scratch * machines.at_a_time)} of disk each" if load.scratch else ""
    uncounted = ", embedding not counted: give --items-per-second" if unknown else ""
    kinds = ", ".join(f"{bytes_text(size)} {kind}" for kind, size in storage.items())
    parts = (
        f"{load.shards:,} shards (one for each partition), {load.blocks:,} blocks, "
        f"{load.tiers} tiers, {load.pieces:,} pieces"
    )
    facts = [
        ("vectors", f"{load.rows:,} of {load.dim} components, {bytes_text(load.stored)} to read"),
        ("index", f"{load.key}: {load.key.nlist:,} lists, {load.code} bytes a vector, and 8 of its id"),
        ("training", f"{load.sampled:,} sampled vectors, {load.groups:,} groups of {load.cells:,} cells"),
        ("parts", parts),
        ("files", f"{sum(load.files.values()):,}, and {load.markers:,} markers"),
        ("storage", f"{bytes_text(sum(storage.values()))}: {kinds}"),
        ("workers", f"{machines.workers:,} of {machines.cores} cores{network}{disk}"),
        ("time", f"{duration_text(forecast.seconds)}{uncounted}"),
        ("recall@10", str(recall or "not known before an index is trained on the vectors")),
        ("bottleneck", f"{forecast.bottleneck}{' of the stages that are counted' if unknown else ''}"),
    ]
    room = max(len(name) for name, _ in facts)
    return "\n".join(f"{name:<{room}}  {text}" for name, text in facts)


def _stages(forecast: Forecast) -> str:
    columns = [Column("stage"), *(Column(name, "right") for name in ("tasks", "reads", "writes", "memory", "time", ""))]
    rows = []
    for stage in (stage for stage in forecast.stages if stage.cost.tasks):
        seconds = stage.seconds
        share = "" if seconds is None else f"{100 * seconds / forecast.seconds:.0f} %"
        time = "not known" if seconds is None else duration_text(seconds)
        memory = bytes_text(stage.memory.bytes) if stage.memory else ""
        cost = stage.cost
        rows.append(
            [cost.stage, f"{cost.tasks:,}", bytes_text(cost.reads), bytes_text(cost.writes), memory, time, share]
        )
    return text_table.render(columns, rows)


def _formulas(forecast: Forecast) -> str:
    threads = forecast.machines.threads
    each = forecast.rates.file_seconds
    rates = forecast.rates
    beside = rates.step_seconds if forecast.machines.is_one_process else rates.stage_seconds
    rows = []
    for stage in forecast.stages:
        if stage.seconds is None or stage.seconds < _SMALL * forecast.seconds:
            continue
        name, small = stage.cost.stage, stage.cost.small_reads
        for work in stage.cost.works:
            rate = forecast.rates.of(work.rate, threads)
            needs = duration_text(work.amount / rate)
            rows.append([name, work.what, work.formula, rate_text(work.rate, rate), needs])
        if small:
            rows.append([name, "small reads", f"{small:,}", f"{each:.4f} s each", duration_text(small * each)])
    columns = [Column("stage"), Column("work"), Column("formula"), Column("a task", "right"), Column("in all", "right")]
    storage = forecast.machines.bandwidth
    head = (
        f"A stage takes ⌈tasks / {forecast.machines.slots:,}⌉ x (work / tasks + {rates.marker_seconds:.3f} s) "
        f"+ {beside:.3f} s; a task has {threads} threads."
        + (" It takes no less than its bytes take between workers and storage." if storage else "")
    )
    return f"{head}\n{text_table.render(columns, rows)}"


def _memory(forecast: Forecast) -> str:
    peaks = {stage.memory.stage: stage.memory for stage in forecast.stages if stage.memory}
    lines = (f"  {task.stage:<6}  {bytes_text(task.bytes):>10}  {task.task}: {task}" for task in peaks.values())
    return "\n".join(["Memory of a worker:", *lines])


def _rates(forecast: Forecast) -> str:
    rates = forecast.rates
    rows = [[name, rate_text(name, value), _whose(name)] for name, value in rates.values().items()]
    head = f"Rates of {rates.machine}, {rates.measured} (pixdex plan --calibrate measures this machine):"
    return f"{head}\n{text_table.render([Column('rate'), Column('value', 'right'), Column('')], rows)}"


def _whose(name: str) -> str:
    if name in ASSUMED:
        return "assumed"
    return "a core" if name in A_CORE else "a task" if "_bytes" in name else ""
