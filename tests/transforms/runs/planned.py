"""A run that is planned, with markers as workers leave them."""

import time

from transforms.markers import ShardMarker, StageMarker, TimeSpent
from transforms.record_json import encode
from transforms.records import Partition, Plan
from transforms.runs import partitions
from transforms.runs.beacons import Beacon
from transforms.runs.run import Run, Stage
from transforms.storage import layout

FIRST, SIZES = 5, (100, 300, 50, 50)
"""Shards of the plan: the number of the first, and the items of each, each of which has two rows."""


def plan(run: Run) -> None:
    cut = [Partition(FIRST + place, place // 2, (), items, 2 * items) for place, items in enumerate(SIZES)]
    table = partitions.write_partitions(run.store, layout.plan_folder(1), cut)
    items = sum(SIZES)
    made = Plan(1, "0" * 64, table, FIRST, len(SIZES), 2, items, 2 * items, "IVF1,Flat")
    run.store.commit(layout.plan(1), made)
    over(run, "plan")


def over(run: Run, *stages: Stage, tasks: int = 1, at: float = 0.0) -> None:
    for number, stage in enumerate(stages, start=1):
        run.store.commit(layout.stage_marker(1, stage), StageMarker(stage, tasks, at + number))


def embed(run: Run, shard: int, rejected: int = 0, spent: float | None = None) -> None:
    items = SIZES[shard - FIRST]
    rows = 2 * (items - rejected)
    parts = None if spent is None else TimeSpent({"encode": spent}, 0.0, "here", 2, "cpu", 8)
    marker = ShardMarker(shard, 0, "", items, rejected, rows, rows, 0, 0, None, None, 1.0, spent=parts)
    run.store.commit(layout.marker(1, "embed", shard), marker)


def light(run: Run, stage: Stage, task: int, share: float) -> None:
    run.store.overwrite(layout.beacon(1, stage, task), encode(Beacon(share, time.time())))
