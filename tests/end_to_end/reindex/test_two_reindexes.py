"""Two reindexes of one root at once do no harm: one works, one says who is at it; and a zombie changes nothing.

A zombie at every stage, and all writing jobs at once, take some minutes:

    pytest -m slow tests/end_to_end/reindex/test_two_reindexes.py
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines import build, gc, reindex, rollback, verify
from tests.end_to_end import reindexing
from tests.end_to_end.builds import REPOSITORY, Finished, content, leftovers, wait
from tests.end_to_end.reindexing import Collection, collection, found, generation_of
from transforms.record_json import encode
from transforms.runs.run import STAGES
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep.lease import Lease

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Night:
    """Sources that have changed, a root that was built before they did, and what a single reindex makes of it."""

    items: Collection
    root: Path
    content: dict[str, str]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("night")
    items = collection(folder / "sources", pictures=200)
    assert build.main(["--root", str(folder / "before"), *items.arguments, "--index-key", "IVF4,Flat"]) == 0
    items.pictures |= {f"new {number}": 400 + number for number in range(60)} | {"bad": -1}
    del items.pictures["p003"], items.rows["k004"]
    items.write()
    shutil.copytree(folder / "before", folder / "alone")
    assert reindexing.run(folder / "alone") == 0
    return Night(items, folder / "before", content(folder / "alone"))


@pytest.fixture
def root(night: Night, tmp_path: Path) -> Path:
    shutil.copytree(night.root, tmp_path / "root")
    return tmp_path / "root"


def start(root: Path, job: str = "reindex", *flags: str) -> "subprocess.Popen[str]":
    flags = ("--no-progress",) if job == "reindex" else flags
    return subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.job", job, "--root", str(root), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
        encoding="utf-8",
    )


@contextlib.contextmanager
def stopped(root: Path, reached: str) -> Iterator["subprocess.Popen[str]"]:
    """A reindex that stands still, as if its machine slept, from when a file is there; it goes on after the block."""
    process = start(root)
    try:
        while not (root / reached).exists():
            assert process.poll() is None, wait(process).err
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGSTOP)
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)


def expire(root: Path) -> None:
    """Makes the lease one of a process of another machine that has not been heard of for an hour."""
    store, old = Store.at(str(root)), time.time() - 3600
    dead = dataclasses.replace(
        store.read_record(layout.LEASE, Lease), host="elsewhere", pid=1, since=old, renewed=old, run=None
    )
    store.overwrite(layout.LEASE, encode(dead))
    for path in (root / "plans").rglob("*"):
        os.utime(path, (old, old))


def assert_says_who(err: Sequence[str], pid: int, lease: Lease) -> None:
    """One line, and in it who has the root, and since when."""
    assert len(err) == 1, err
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(lease.since))
    who = f"is being written by pixdex reindex on {socket.gethostname()} (process {pid}) since {since}"
    assert err[0].startswith("pixdex: ") and who in err[0]


def assert_ended_well(one: Finished) -> None:
    """It did its work, or said in a line why not."""
    assert one.code in (0, 1), one.err
    assert "Traceback" not in "\n".join(one.err)
    if one.code == 1:
        assert sum(line.startswith("pixdex: ") for line in one.err) == 1, one.err
        assert one.err[-1].startswith("pixdex: "), one.err


@pytest.mark.gate
def test_of_two_started_together_one_works_and_one_says_who_does(night: Night, root: Path) -> None:
    both = [start(root), start(root)]
    pids = [process.pid for process in both]
    ended = [wait(process) for process in both]
    for one, other in zip(ended, reversed(pids), strict=True):
        assert_ended_well(one)
        if one.code == 1:
            assert f"is being written by pixdex reindex on {socket.gethostname()} (process {other}) since" in one.err[0]
        else:
            assert one.said["generation"] == 2
    assert min(one.code for one in ended) == 0
    assert content(root) == night.content
    assert not Store.at(str(root)).exists(layout.LEASE)
    assert verify.main(["--root", str(root)]) == 0


@pytest.mark.gate
def test_whoever_wants_to_write_meanwhile_leaves_and_says_who_does(night: Night, root: Path, capsys: Capture) -> None:
    jobs: dict[str, Callable[[], int]] = {
        "reindex": lambda: reindexing.run(root),
        "gc": lambda: gc.main(["--root", str(root), "--keep", "1", "--older-than", "0s"]),
        "rollback": lambda: rollback.main(["--root", str(root), "--to", "1"]),
    }
    with stopped(root, layout.plan(2)) as first:
        capsys.readouterr()
        lease = Store.at(str(root)).read_record(layout.LEASE, Lease)
        for name, job in jobs.items():
            assert job() == 1, name
            assert_says_who(capsys.readouterr().err.splitlines(), first.pid, lease)
    assert wait(first).code == 0
    assert content(root) == night.content
    assert leftovers(root) == []


MOMENTS = [layout.plan(2), *(layout.stage_marker(2, stage) for stage in STAGES)]


def moment(path: str) -> object:
    """Leaves all but one to the slow ones."""
    quick = path == layout.stage_marker(2, "embed")
    return pytest.param(path, id=Path(path).stem, marks=() if quick else pytest.mark.slow)


@pytest.mark.gate
@pytest.mark.parametrize("reached", [moment(path) for path in MOMENTS])
def test_a_zombie_whose_lease_expired_publishes_nothing_wrong(night: Night, root: Path, reached: str) -> None:
    store = Store.at(str(root))
    with stopped(root, reached) as zombie:
        if not store.exists(layout.LEASE):
            pytest.skip("it was over before it could be stopped")
        expire(root)
        assert reindexing.run(root) == 0
        if generation_of(root).generation == 1:  # the plan's own night was over already
            assert reindexing.run(root) == 0
        assert content(root) == night.content
        now = time.time()
        other = encode(Lease("another", "another machine", 1, "", "reindex", now, now))
        store.overwrite(layout.LEASE, other)
    assert_ended_well(wait(zombie))
    assert (root / layout.LEASE).read_bytes() == other, "the lease of another was removed"
    store.remove(layout.LEASE)
    assert generation_of(root).generation == 2
    assert content(root) == night.content
    assert verify.main(["--root", str(root)]) == 0
    assert reindexing.run(root) == 0
    assert generation_of(root).generation == 2


@pytest.mark.gate
@pytest.mark.parametrize(
    "collect", [pytest.param(False, id="kept", marks=pytest.mark.slow), pytest.param(True, id="collected")]
)
@pytest.mark.parametrize("reached", [moment(path) for path in MOMENTS[:-1]])
def test_a_zombie_of_a_night_before_the_last_one_publishes_nothing_wrong(
    night: Night, root: Path, reached: str, *, collect: bool
) -> None:
    with stopped(root, reached) as zombie:
        expire(root)
        assert reindexing.run(root) == 0
        night.items.pictures["newest"] = 900
        night.items.write()
        try:
            assert reindexing.run(root) == 0
        finally:
            del night.items.pictures["newest"]
            night.items.write()
        if collect:
            assert gc.main(["--root", str(root), "--keep", "1", "--older-than", "0s"]) == 0
        published, before = content(root), generation_of(root).generation
        assert before == 3
    assert_ended_well(wait(zombie))
    assert generation_of(root).generation == before
    assert content(root) == published
    assert verify.main(["--root", str(root)]) == 0
    assert reindexing.run(root) == 0  # the newest is gone again
    assert generation_of(root).generation == 4
    assert verify.main(["--root", str(root)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.5, 1, 2, 3])
def test_all_that_write_at_once_leave_a_whole_root(night: Night, root: Path, tmp_path: Path, seconds: float) -> None:
    night_alone = tmp_path / "alone"
    shutil.copytree(root, night_alone)
    assert reindexing.run(night_alone) == 0
    jobs = [start(root)]
    time.sleep(seconds)
    collecting = ("--keep", "1", "--older-than", "0s")
    jobs += [start(root, "gc", *collecting), start(root, "rollback", "--to", "1"), start(root)]
    for one in [wait(job) for job in jobs]:
        assert one.code in (0, 1, 2), one.err
        assert "Traceback" not in "\n".join(one.err), one.err
        assert one.code == 0 or one.err[-1].startswith("pixdex: "), one.err
    assert verify.main(["--root", str(root)]) == 0
    assert not Store.at(str(root)).exists(layout.LEASE)
    assert reindex.main(["--root", str(root), "--no-progress"]) == 0
    assert verify.main(["--root", str(root)]) == 0
    reindexing.assert_same(found(root), found(night_alone))
