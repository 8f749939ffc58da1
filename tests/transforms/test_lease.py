"""The lease: one writer at a time; a dead one gives way at once, and a living one is named."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.transforms.stages import TINY
from transforms import generations, layout, lease
from transforms.errors import PixdexError
from transforms.lease import Lease
from transforms.records import IndexSettings, Request, Source, StageMarker, encode
from transforms.store import Store

REQUEST = Request((Source("images", "file:///pictures"),), TINY, IndexSettings())


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root") if request.param == "folder" else f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The number of a process that lives."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process.pid
        process.kill()


def lay(store: Store, **changes: object) -> Lease:
    """Puts a lease of this process there, but for some changes."""
    now = time.time()
    own = Lease("t", socket.gethostname(), os.getpid(), lease.process_start(os.getpid()), "reindex", now, now)
    found = dataclasses.replace(own, **changes)  # type: ignore[arg-type]  # names of its fields
    store.overwrite(layout.LEASE, encode(found))
    return found


def is_free(store: Store) -> bool:
    try:
        with lease.held(store, "gc"):
            return True
    except PixdexError:
        return False


def test_it_is_there_while_it_is_held_and_gone_afterwards(store: Store) -> None:
    with lease.held(store, "reindex") as held:
        held.of_run(7)
        found = store.read_record(layout.LEASE, Lease)
        assert (found.command, found.pid, found.run) == ("reindex", os.getpid(), 7)
    assert not store.exists(layout.LEASE)


def test_a_second_one_leaves_with_who_and_since_when(store: Store) -> None:
    said = (
        rf"is being written by pixdex reindex on {socket.gethostname()} \(process {os.getpid()}\) since 20\d\d-.* UTC"
    )
    with lease.held(store, "reindex"), pytest.raises(PixdexError, match=said), lease.held(store, "gc"):
        pass


def test_it_is_given_back_after_an_error(store: Store) -> None:
    with pytest.raises(ValueError, match="x"), lease.held(store, "reindex"):
        raise ValueError("x")
    assert is_free(store)


def test_a_process_that_lives_keeps_it_however_old_it_is(store: Store, sleeper: int) -> None:
    lay(store, pid=sleeper, started=lease.process_start(sleeper), renewed=0.0)
    assert not is_free(store)


@pytest.mark.parametrize("what", ["a dead process", "a number given away again", "an earlier life of this process"])
def test_a_dead_one_is_taken_over_at_once(store: Store, sleeper: int, what: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    changes = {
        "a dead process": {"pid": process.pid, "started": ""},
        "a number given away again": {"pid": sleeper, "started": "another boot 17"},
        "an earlier life of this process": {"started": "another boot 17"},
    }[what]
    lay(store, **changes)
    assert is_free(store)


def test_another_host_keeps_it_while_it_renews_it(store: Store) -> None:
    lay(store, host="elsewhere", renewed=time.time() - 300)
    assert not is_free(store)
    lay(store, host="elsewhere", renewed=time.time() - lease.DEAD_SECONDS - 1)
    assert is_free(store)


def test_another_host_keeps_it_while_its_run_commits_markers(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "root"))
    run = generations.begin(store, REQUEST)
    run.store.commit(layout.marker(run.generation, "plan", 0), StageMarker("plan", 1, 0.0))
    lay(store, host="elsewhere", renewed=0.0, run=run.generation)
    assert not is_free(store)
    old = time.time() - lease.DEAD_SECONDS - 1
    for path in (tmp_path / "root" / "plans").rglob("*"):
        os.utime(path, (old, old))
    assert is_free(store)


def test_a_job_that_goes_on_alone_keeps_it_until_its_run_is_over(store: Store) -> None:
    run = generations.begin(store, REQUEST)
    with lease.held(store, "reindex") as held:
        held.of_run(run.generation)
        held.keep()
    assert not is_free(store)
    generations.abandon(run)
    assert is_free(store)


def test_one_that_was_taken_over_is_neither_renewed_nor_removed_by_who_had_it(store: Store) -> None:
    with lease.held(store, "reindex") as held:
        other = lay(store, token="another", host="elsewhere")
        held.renew()
        held.of_run(3)
        assert store.read_record(layout.LEASE, Lease) == other
    assert store.read_record(layout.LEASE, Lease) == other


def test_it_is_renewed_while_it_is_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.02)
    with lease.held(store, "reindex"):
        before = store.read_record(layout.LEASE, Lease).renewed
        deadline = time.monotonic() + 10
        while store.read_record(layout.LEASE, Lease).renewed == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_is_no_lease_is_named_and_gives_way_when_it_is_old(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "root"))
    store.overwrite(layout.LEASE, b'{"token": 1')
    with pytest.raises(PixdexError, match=r"lease\.json is no lease .* delete it"), lease.held(store, "gc"):
        pass
    old = time.time() - lease.DEAD_SECONDS - 1
    os.utime(tmp_path / "root" / layout.LEASE, (old, old))
    assert is_free(store)


def test_of_many_at_the_same_moment_one_has_it(store: Store) -> None:
    def attempt(_: int) -> bool:
        try:
            with lease.held(store, "reindex"):
                time.sleep(0.05)
                return True
        except PixdexError:
            return False

    for _ in range(10):
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, range(8))) == 1
