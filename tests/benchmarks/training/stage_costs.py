"""CPU seconds of every stage of training, task after task in this process: what no start and no runner is part of.

    python -m tests.benchmarks.training.stage_costs ROOT

`ROOT` is of `pixdex train`, which must be done; its tasks are done once more, so that what they leave is there already.
The last line on stdout is one JSON object: seconds by stage.
"""

import json
import resource
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from transforms.index.training.cells import CellGroup
from transforms.runs import beginning, inventory
from transforms.runs.run import STAGES, Run
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks import train, train_lists
from transforms.tasks.train_lists import Pass

T = TypeVar("T")

TRAINING = STAGES[STAGES.index("sample") : STAGES.index("add")]


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def costs(root: str) -> dict[str, float]:
    """Does the tasks of the only run of a root once more, without their markers; those of whole stages stay."""
    store = Store.at(root)
    run = Run(store, max(beginning.runs(store)))
    groups = list(train_lists.group_cells(run))
    blocks = inventory.blocks(run)
    tasks = {"sample": blocks, "route": blocks, "cells": len(groups), "pass1": len(groups), "pass2": len(groups)}
    for stage in TRAINING:
        for task in range(tasks.get(stage, 1)):
            store.remove(layout.marker(run.generation, stage, task))
    work: dict[str, Callable[[], object]] = {
        "sample": lambda: _each(partial(train.sample_block, run), train.blocks_to_sample(run)),
        "parents": lambda: train.train_parents(run),
        "route": lambda: _each(partial(train.route_block, run), range(blocks)),
        "cells": lambda: _cells(run, groups),
        "pass1": lambda: _look(run, "pass1", groups),
        "move1": lambda: train_lists.move_lists(run, "pass1", "move1", len(groups)),
        "pass2": lambda: _look(run, "pass2", groups),
        "move2": lambda: train_lists.move_lists(run, "pass2", "move2", len(groups)),
        "train": lambda: train.assemble_index(run),
    }
    found: dict[str, float] = {}
    for stage in TRAINING:
        before = cpu_seconds()
        work[stage]()
        found[stage] = round(cpu_seconds() - before, 3)
    return found


def _each(do: Callable[[T], None], tasks: Iterable[T]) -> None:
    for task in tasks:
        do(task)


def _cells(run: Run, groups: list[CellGroup]) -> None:
    routed = train_lists.Routed(run)
    _each(lambda group: train_lists.cluster_cells(run, group, routed), groups)


def _look(run: Run, look: Pass, groups: list[CellGroup]) -> None:
    before = train_lists.Before(run, look)
    _each(lambda group: train_lists.look(run, look, group, before), groups)


if __name__ == "__main__":
    print(json.dumps(costs(sys.argv[1])))
