"""Two reindexes of one root at once do no harm: one works, one says who is at it; and a zombie changes nothing."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import build, verify
from tests.end_to_end import reindexing
from tests.end_to_end.builds import REPOSITORY, Finished, content, wait
from tests.end_to_end.reindexing import collection, generation_of
from transforms import layout
from transforms.lease import Lease
from transforms.records import encode
from transforms.store import Store


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose sources have changed since it was built."""
    folder = tmp_path_factory.mktemp("before")
    items = collection(folder / "sources", pictures=200)
    assert build.main(["--root", str(folder / "root"), *items.arguments, "--index-key", "IVF4,Flat"]) == 0
    items.pictures |= {f"new {number}": 400 + number for number in range(60)} | {"bad": -1}
    del items.pictures["p003"], items.rows["k004"]
    items.write()
    return folder / "root"


@pytest.fixture(scope="module")
def alone(before: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one of them makes."""
    root = tmp_path_factory.mktemp("alone") / "root"
    shutil.copytree(before, root)
    assert reindexing.run(root) == 0
    return content(root)


def start(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.reindex", "--root", str(root), "--no-progress"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
        encoding="utf-8",
    )


def assert_leaves(one: Finished) -> None:
    """It did its work, or found another at it and said so in a line."""
    assert one.code in (0, 1), one.err
    assert "Traceback" not in "\n".join(one.err)
    if one.code == 1:
        assert one.err[-1].startswith("pixdex: ") and "is being written by pixdex reindex on" in one.err[-1]


def test_of_two_started_together_one_works_and_one_says_who_does(
    before: Path, alone: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(before, root)
    both = [wait(process) for process in [start(root), start(root)]]
    for one in both:
        assert_leaves(one)
    assert min(one.code for one in both) == 0
    assert content(root) == alone
    assert verify.main(["--root", str(root)]) == 0
    assert not Store.at(str(root)).exists(layout.LEASE)


@pytest.mark.parametrize("stage", ["plan", "keys", "add"])
def test_a_zombie_whose_lease_expired_publishes_nothing_wrong(
    before: Path, alone: dict[str, str], tmp_path: Path, stage: str
) -> None:
    root = tmp_path / "root"
    shutil.copytree(before, root)
    store = Store.at(str(root))
    zombie = start(root)
    while not (root / layout.stage_marker(2, stage)).exists() and zombie.poll() is None:
        time.sleep(0.002)
    os.kill(zombie.pid, signal.SIGSTOP)
    try:
        expired = dataclasses.replace(store.read_record(layout.LEASE, Lease), host="elsewhere", renewed=0.0, run=None)
        store.overwrite(layout.LEASE, encode(expired))
        old = time.time() - 3600
        for path in (root / "plans").rglob("*"):
            os.utime(path, (old, old))
        second = wait(start(root))
        assert second.code == 0, second.err
        assert content(root) == alone
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
    first = wait(zombie)
    assert first.code in (0, 1) and "Traceback" not in "\n".join(first.err), first.err
    assert generation_of(root).generation == 2
    assert content(root) == alone
    assert verify.main(["--root", str(root)]) == 0
    assert reindexing.run(root) == 0
    assert generation_of(root).generation == 2
