"""Beacons: there while a task is at work, and nothing depends on them."""

import threading
import time
from pathlib import Path

import pytest

from tests.transforms.small_runs import begin, pictures
from transforms.record_json import encode
from transforms.runs import beacons
from transforms.runs.beacons import OLD_SECONDS, Beacon, Told
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return begin(tmp_path / "root", pictures(tmp_path))


def seen(run: Run, *done: int) -> dict[int, float]:
    return {task: beacon.share for task, beacon in beacons.read(run, "embed", set(done)).items()}


def until_lit(run: Run, share: float) -> None:
    until = time.monotonic() + 20
    while seen(run) != {7: share}:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_it_tells_what_the_task_told_and_goes_with_it(run: Run) -> None:
    with beacons.lit(run, "embed", 7, first=0.01, every=0.01) as told:
        until_lit(run, 0.0)
        told.of(30, 60)
        until_lit(run, 0.5)
        assert seen(run, 7) == {}  # it has its marker
    assert seen(run) == {}
    assert run.store.names(layout.beacon_folder(1, "embed")) == []


def test_a_short_task_writes_none(run: Run) -> None:
    with beacons.lit(run, "embed", 7) as told:
        told.of(1, 2)
    assert not run.store.exists(layout.beacons(1))


def test_it_goes_when_the_task_fails_and_the_error_comes_through(run: Run) -> None:
    with pytest.raises(ValueError, match="mine"), beacons.lit(run, "embed", 7, first=0.01, every=0.01):
        until_lit(run, 0.0)
        raise ValueError("mine")
    assert seen(run) == {}


def test_a_store_that_cannot_be_written_disturbs_no_task(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def full(self: Store, path: str, data: bytes) -> None:
        tried.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "overwrite", full)
    with beacons.lit(run, "embed", 7, first=0.01, every=0.01):
        until = time.monotonic() + 20
        while len(tried) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(tried) >= 2


def test_old_ones_and_what_is_none_do_not_count(run: Run) -> None:
    now = time.time()
    for task, data in {
        1: encode(Beacon(0.25, now - 1)),
        2: encode(Beacon(0.5, now - OLD_SECONDS - 1)),
        3: b"{}",
        4: b"\xff",
        5: encode(Beacon(7.0, now)),
    }.items():
        run.store.overwrite(layout.beacon(1, "embed", task), data)
    run.store.overwrite(f"{layout.beacon_folder(1, 'embed')}/readme.txt", b"")
    assert seen(run) == {1: 0.25}


def test_what_killed_workers_left_is_cleared(run: Run) -> None:
    beacons.clear(run)
    run.store.overwrite(layout.beacon(1, "add", 1), encode(Beacon(0.25, time.time())))
    beacons.clear(run)
    assert beacons.read(run, "add", set()) == {}


def test_a_store_where_nothing_may_be_removed_stops_no_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Store, folder: str) -> None:
        raise LookupError("403 Forbidden: no permission to delete")  # stores' own errors are no OSErrors

    monkeypatch.setattr(Store, "remove_folder", forbidden)
    beacons.clear(run)


def test_a_write_that_takes_longer_than_the_task_leaves_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, overwrite, path = threading.Event(), Store.overwrite, layout.beacon(1, "embed", 7)

    def slow(self: Store, path: str, data: bytes) -> None:
        begun.set()
        time.sleep(0.5)
        overwrite(self, path, data)

    monkeypatch.setattr(Store, "overwrite", slow)
    monkeypatch.setattr(beacons, "_SECONDS_TO_END", 0.01)
    with beacons.lit(run, "embed", 7, first=0.01, every=0.01):
        assert begun.wait(20)
    for thread in threading.enumerate():
        if thread.name == "beacon":
            thread.join()
    assert not run.store.exists(path)


def test_what_is_told_never_goes_back_and_never_beyond_all() -> None:
    told = Told()
    shares = []
    for done, planned in ((1, 4), (0, 4), (3, 4), (9, 4), (0, 0)):
        told.of(done, planned)
        shares.append(told.share)
    assert shares == [0.25, 0.25, 0.75, 1.0, 1.0]
