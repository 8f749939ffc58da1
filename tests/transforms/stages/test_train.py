"""Training: a sample of every block, one trained index, both committed once."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiers import mostly_gate
from tests.transforms.built import ROWS, run_up_to
from tests.transforms.small_runs import go, tasks
from transforms.errors import PixdexError
from transforms.index.open_trained import open_trained
from transforms.index.trained import read_training
from transforms.index.training import cells, figures
from transforms.markers import ListsMarker
from transforms.runs.run import Run, Stage
from transforms.stages.train import TrainIndex
from transforms.storage import layout
from transforms.tasks import train
from transforms.tasks.training_files import TensorsMarker, read_tensors

TRAINING: tuple[Stage, ...] = (
    "sample", "parents", "route", "cells", "pass1", "move1", "pass2", "move2", "train",
)  # fmt: skip
ONE_TASK: tuple[Stage, ...] = ("parents", "cells", "pass1", "move1", "pass2", "move2", "train")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return run_up_to("train", tmp_path, monkeypatch)


def test_every_block_is_sampled_and_routed_and_one_index_is_trained(run: Run) -> None:
    go(TrainIndex(run))
    assert tasks(run, "sample") == tasks(run, "route") == run.plan.blocks > 2
    assert [tasks(run, stage) for stage in ONE_TASK] == [1] * len(ONE_TASK)
    samples = run.markers("sample", range(run.plan.blocks), ListsMarker)
    assert sum(sample.rows for sample in samples) == ROWS
    trained = run.trained().trained
    assert (trained.key, trained.nlist, trained.dim, trained.metric, trained.nprobe) == ("IVF4,Flat", 4, 16, "ip", 2)
    described = read_training(run.store, trained)
    routed = run.markers("route", range(run.plan.blocks), ListsMarker)
    assert sum(block.rows for block in routed) == described.sample_rows == ROWS - described.held_out_rows
    assert 0 < described.held_out_rows < ROWS // 16
    index = open_trained(run.store, trained).index
    assert index.is_trained and index.ntotal == 0


def test_many_groups_of_cells_train_like_one(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FLAT_BELOW", 4)
    go(TrainIndex(run))
    monkeypatch.setattr(cells, "group_cells", functools.partial(cells.group_cells, group_rows=100))
    (tmp_path / "groups").mkdir()
    groups = run_up_to("train", tmp_path / "groups", monkeypatch)
    go(TrainIndex(groups))
    assert tasks(groups, "cells") == tasks(groups, "pass1") == tasks(groups, "pass2") > 1 == tasks(run, "cells")
    # Both stay alive: a quantizer dies with its index.
    one, other = (open_trained(each.store, each.trained().trained).index for each in (run, groups))
    np.testing.assert_allclose(other.quantizer.reconstruct_n(0, 4), one.quantizer.reconstruct_n(0, 4), atol=1e-6)


def test_a_run_that_is_trained_is_left_alone(run: Run) -> None:
    go(TrainIndex(run))
    index = run.store.local_path(run.trained().trained.index.path)
    before = index.stat()
    go(TrainIndex(run))
    assert (index.stat().st_ino, index.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("first", mostly_gate(["sample", "route", "cells", "pass2"], quick=["cells"]))
def test_a_run_that_was_stopped_at_any_stage_ends_with_the_same_index(run: Run, first: Stage) -> None:
    go(TrainIndex(run))
    before = run.trained()
    for stage in TRAINING[TRAINING.index(first) :]:
        markers = layout.marker_folder(1, stage)
        done = run.store.names(markers)
        # Of the first lost stage one task is done: the run was stopped in the middle of it.
        for name in done[1:] if stage == first and len(done) > 1 else done:
            run.store.local_path(f"{markers}/{name}").unlink()
        run.store.local_path(layout.stage_marker(1, stage)).unlink()
    go(TrainIndex(run))
    assert run.trained() == before


def test_lists_that_were_trained_in_another_way_become_no_index(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(train, "_WAY", "as before")
        go(TrainIndex(run))
    run.store.local_path(layout.marker(1, "train", 0)).unlink()
    run.store.local_path(layout.stage_marker(1, "train")).unlink()
    with pytest.raises(PixdexError, match="start again with --abandon-plan"):
        go(TrainIndex(run))


@pytest.mark.gate
def test_lost_files_are_made_again(run: Run) -> None:
    go(TrainIndex(run))
    before = run.trained()
    names = {folder: run.store.names(folder) for folder in (layout.sample_folder(1), layout.training_folder(1))}
    for folder, files in names.items():
        for name in files:
            run.store.local_path(f"{folder}/{name}").unlink()
    run.store.local_path(layout.marker(1, "train", 0)).unlink()
    go(TrainIndex(run))
    assert run.trained() == before
    assert {folder: run.store.names(folder) for folder in names} == names


@pytest.mark.gate
def test_tensors_that_are_not_those_referred_to_are_refused(run: Run) -> None:
    go(TrainIndex(run))
    (marker,) = run.markers("move1", [0], TensorsMarker)
    path = run.store.local_path(marker.tensors.path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PixdexError, match=f"{marker.tensors.path} is damaged"):
        read_tensors(run, "move1")


@pytest.mark.gate
def test_markers_are_read_once_a_process_and_not_once_a_group(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FLAT_BELOW", 4)
    monkeypatch.setattr(cells, "group_cells", functools.partial(cells.group_cells, group_rows=1))
    stages: list[str] = []
    read = Run.markers

    def count(self: Run, stage: Stage, numbers: Iterable[int], kind: type[Any]) -> list[Any]:
        stages.append(stage)
        return read(self, stage, numbers, kind)

    monkeypatch.setattr(Run, "markers", count)
    go(TrainIndex(run))
    groups = tasks(run, "cells")
    assert groups > 1
    assert stages.count("route") == 3 * 2  # to group the cells, and for the groups of a process: in cells and passes
    assert stages.count("cells") == 2  # in the first pass, and to move after it


@pytest.mark.gate
def test_bundles_that_run_twice_train_the_same_index(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(TrainIndex(run))
    (tmp_path / "twice").mkdir()
    twice = run_up_to("train", tmp_path / "twice", monkeypatch)
    go(TrainIndex(twice), "--direct_runner_bundle_repeat=1")
    assert twice.trained().trained == run.trained().trained
