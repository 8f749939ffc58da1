"""Training: a sample of every block, one trained index, both committed once."""

from pathlib import Path

import pytest

from tests.transforms.built import ROWS, run_up_to
from tests.transforms.stages import go, tasks
from transforms import layout
from transforms.index import sampling, training
from transforms.records import ListsMarker
from transforms.run import Run
from transforms.train import TrainIndex


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return run_up_to("train", tmp_path, monkeypatch)


def test_every_block_is_sampled_and_one_index_is_trained(run: Run) -> None:
    go(TrainIndex(run))
    assert tasks(run, "sample") == run.plan.blocks > 2 and tasks(run, "train") == 1
    samples = run.markers("sample", range(run.plan.blocks), ListsMarker)
    assert sum(sample.rows for sample in samples) == ROWS
    assert sampling.read_sample(run.store, [sample.lists for sample in samples]).shape == (ROWS, 16)
    trained = run.trained().trained
    assert (trained.key, trained.nlist, trained.dim, trained.metric, trained.nprobe) == ("IVF4,Flat", 4, 16, "ip", 2)
    index = training.load(run.store, trained.index)
    assert index.is_trained and index.ntotal == 0


def test_a_run_that_is_trained_is_left_alone(run: Run) -> None:
    go(TrainIndex(run))
    index = run.store.local_path(run.trained().trained.index.path)
    before = index.stat()
    go(TrainIndex(run))
    assert (index.stat().st_ino, index.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("stage", ["sample", "train"])
def test_after_a_lost_stage_the_same_index_is_trained_again(run: Run, stage: str) -> None:
    go(TrainIndex(run))
    before = run.trained()
    names = run.store.names(layout.sample_folder(1))
    for name in [f"{stage}/{name}" for name in run.store.names(layout.marker_folder(1, stage))] + [
        "stages/sample.json", "stages/train.json", "train/0000000000.json",
    ]:  # fmt: skip
        run.store.local_path(f"{layout.plan_folder(1)}/{name}").unlink(missing_ok=True)
    go(TrainIndex(run))
    assert run.trained() == before
    assert run.store.names(layout.sample_folder(1)) == names


def test_bundles_that_run_twice_train_the_same_index(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(TrainIndex(run))
    (tmp_path / "twice").mkdir()
    twice = run_up_to("train", tmp_path / "twice", monkeypatch)
    go(TrainIndex(twice), "--direct_runner_bundle_repeat=1")
    assert twice.trained().trained == run.trained().trained
