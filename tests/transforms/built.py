"""Runs that stand before a later stage."""

from pathlib import Path

import pytest

from tests.end_to_end.builds import make_work_small
from tests.transforms.small_runs import begin, go
from transforms.records import Source
from transforms.runs.run import Run, Stage
from transforms.stages.add import AddBlocks
from transforms.stages.embed import EmbedPartitions
from transforms.stages.keys import UpdateKeys
from transforms.stages.merge import MergeBlocks
from transforms.stages.plan import PlanItems
from transforms.stages.train import TrainIndex

ROWS = 300


def run_up_to(stage: Stage, folder: Path, patch: pytest.MonkeyPatch, key: str = "IVF4,Flat") -> Run:
    """Begins a run of 300 texts in several blocks and runs every stage before this one."""
    make_work_small(patch)
    (folder / "rows.csv").write_text("text\n" + "".join(f"words {n}\n" for n in range(ROWS)), encoding="utf-8")
    run = begin(folder / "root", Source("csv", f"file://{folder}/rows.csv", text_column="text"), key=key)
    stages = {
        "plan": PlanItems(run, 0),
        "embed": EmbedPartitions(run),
        "keys": UpdateKeys(run),
        "train": TrainIndex(run),
        "add": AddBlocks(run),
        "merge": MergeBlocks(run),
    }
    for name, transform in stages.items():
        if name == stage:
            break
        go(transform)
    return run
