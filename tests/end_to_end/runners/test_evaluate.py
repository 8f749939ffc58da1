"""An evaluation finds the same exact neighbours on every runner and store, and one that is killed goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import build, evaluate
from tests import s3
from tests.end_to_end.runners.test_runners import RUNNERS
from tests.tiers import mostly_gate
from transforms.proof import exact
from transforms.runs import partitions
from transforms.storage.store import Store

DIM, ROWS = 16, 9000
Capture = pytest.CaptureFixture[str]
Figures = list[tuple[float, ...]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of several shards."""
    folder = tmp_path_factory.mktemp("evaluated")
    np.save(folder / "rows.npy", np.random.default_rng(3).standard_normal((ROWS, DIM)).astype(np.float32))
    words = ("--vectors", str(folder / "rows.npy"), "--index-key", "IVF16,PQ4x4", "--no-progress")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "ROWS_PER_SHARD", 1000)
        assert build.main(["--root", str(folder / "root"), *words]) == 0
    return folder / "root"


def argv_of(root: object, work: object) -> list[str]:
    words = ("--root", root, "--work", work, "--num-queries", 300, "--nprobe", 1, "--nprobe", 4, "--no-progress")
    return [*map(str, words)]


def figures(last_line: str) -> Figures:
    """What no machine changes."""
    record: dict[str, Any] = json.loads(last_line)
    return [(point["nprobe"], point["shortlist"], point["codes"], point["recall"]) for point in record["curve"]]


def evaluated(capsys: Capture, argv: list[str]) -> Figures:
    capsys.readouterr()
    assert evaluate.main(argv) == 0
    return figures(capsys.readouterr().out.splitlines()[-1])


def are_same(work: Path, here: Path) -> None:
    """Has two evaluations find the same but for rounding: products of one thread are not those of several."""
    (ids, distances), (ids_here, distances_here) = map(found, (work, here))
    np.testing.assert_allclose(distances, distances_here, rtol=1e-5, atol=1e-6)
    assert (ids != ids_here).mean() < 1e-3


def found(work: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    (file,) = work.glob("*/joined/*.npz")
    with np.load(file) as arrays:
        return arrays["ids-0"], arrays["distances-0"]


@pytest.fixture(scope="module")
def here(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this process finds."""
    work = tmp_path_factory.mktemp("here")
    assert evaluate.main(argv_of(root, work)) == 0
    return work


@pytest.mark.parametrize("runner", mostly_gate(RUNNERS, quick=["processes"], slow=["flink-uber-jar"]))
def test_the_same_neighbours_on_every_runner(
    tmp_path: Path, root: Path, here: Path, runner: str, capsys: Capture, request: pytest.FixtureRequest
) -> None:
    flags = RUNNERS[runner](request)
    there = evaluated(capsys, [*argv_of(root, tmp_path), *flags])
    assert there == evaluated(capsys, argv_of(root, here))
    are_same(tmp_path, here)


@pytest.mark.gate
@pytest.mark.parametrize("shards", [3, 100])
def test_several_shards_are_a_task(
    tmp_path: Path, root: Path, here: Path, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "SHARDS_A_TASK", shards)
    monkeypatch.setattr(exact, "_LEAST_TASKS", 1)
    assert evaluate.main(argv_of(root, tmp_path)) == 0
    assert len(list(tmp_path.glob("*/found/*.json"))) == -(-9 // shards)
    are_same(tmp_path, here)


@pytest.mark.gate
@pytest.mark.parametrize("runner", [None, "processes"])
def test_root_and_work_may_lie_in_a_bucket(
    root: Path, here: Path, runner: str | None, capsys: Capture, request: pytest.FixtureRequest
) -> None:
    with s3.serving() as server, s3.bucket_of(server) as bucket:
        store = Store.at(f"{bucket}/root")
        for path in sorted(root.rglob("*")):
            if path.is_file():
                store.create(str(path.relative_to(root)), path.read_bytes())
        flags = RUNNERS[runner](request) if runner else ()
        there = evaluated(capsys, [*argv_of(f"{bucket}/root", f"{bucket}/work"), *flags])
        names = [file.path for file in Store.at(f"{bucket}/work").walk("", hidden=True)]
        assert sum("/joined/" in name for name in names) == 2 and not any("scratch" in name for name in names)
    assert there == evaluated(capsys, argv_of(root, here))


@pytest.mark.gate
def test_a_process_that_is_killed_goes_on_where_it_was(tmp_path: Path, root: Path, here: Path) -> None:
    words = [sys.executable, "-m", "pipelines", "evaluate", *argv_of(root, tmp_path)]
    for tasks in (1, 4):
        job = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while job.poll() is None and len(list(tmp_path.glob("*/found/*.json"))) < tasks:
            time.sleep(0.002)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    there = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/found/*.json")}
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in there} == there
    are_same(tmp_path, here)
