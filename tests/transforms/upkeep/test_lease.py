"""The lease of a root: one process writes, a living one is left in peace, and a dead one holds nobody up."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from transforms.errors import PixdexError, UsageError
from transforms.markers import StageMarker
from transforms.records import EncoderSettings, IndexSettings, Request, Source, encode
from transforms.runs import beginning
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep import lease
from transforms.upkeep.lease import Lease

SINCE = 1_700_000_000.0
"""2023-11-14 22:13:20 UTC."""

LONG_AGO = lease.DEAD_SECONDS + 60
JUST_NOW = lease.DEAD_SECONDS - 60


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield Store.at(str(tmp_path / "root"))
        return
    name = f"memory://{uuid.uuid4().hex}"
    yield Store.at(name)
    if (memory := fsspec.filesystem("memory")).exists(name):
        memory.rm(name, recursive=True)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "root"))


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The number of a process that lives on this host."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def here(pid: int, started: str = "") -> Lease:
    """A lease of a process of this host; that it was not renewed for long says nothing."""
    return Lease(uuid.uuid4().hex, socket.gethostname(), pid, started, "reindex", SINCE, SINCE)


def elsewhere(silent: float, run: int | None = None, *, left: bool = False) -> Lease:
    """A lease of a process of another host, that was renewed so many seconds ago."""
    renewed = time.time() - silent
    return Lease(uuid.uuid4().hex, "another-host", 7, "boot 1", "build", SINCE, renewed, run, left)


def put(store: Store, forged: Lease) -> None:
    store.overwrite(layout.LEASE, encode(forged))


def on_storage(store: Store) -> Lease | None:
    return store.find_record(layout.LEASE, Lease)


def is_free(store: Store) -> bool:
    try:
        with lease.held(store, "gc"):
            return True
    except PixdexError as error:
        assert "is being written by" in str(error)
        return False


def make_older(store: Store, path: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(store.local_path(path), (then, then))


# --- one at a time ---


def test_a_lease_is_there_while_the_block_runs_and_gone_after_it(store: Store) -> None:
    with lease.held(store, "reindex") as held:
        found = on_storage(store)
        assert found == held.lease
        assert (found.host, found.pid, found.command) == (socket.gethostname(), os.getpid(), "reindex")
        assert abs(found.since - time.time()) < 60
    assert on_storage(store) is None


def test_a_lease_is_given_back_when_the_work_fails(store: Store) -> None:
    with pytest.raises(RuntimeError), lease.held(store, "reindex"):
        raise RuntimeError
    assert on_storage(store) is None


def test_whoever_finds_a_lease_leaves_it_as_it_is(store: Store) -> None:
    with lease.held(store, "reindex") as first:
        assert not is_free(store)
        assert on_storage(store) == first.lease
    assert is_free(store)


def test_the_command_tells_which_run_it_makes(store: Store) -> None:
    with lease.held(store, "reindex") as held:
        held.of_run(7)
        found = on_storage(store)
        assert found is not None
        assert found.run == 7


def _race(store: Store) -> int:
    """How many of two that want the lease at the same moment have it at the same moment."""
    begin, end = threading.Barrier(2), threading.Barrier(2)

    def want(_: int) -> bool:
        begin.wait(30)
        try:
            with lease.held(store, "reindex"):
                end.wait(30)
                return True
        except PixdexError:
            end.wait(30)
            return False

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(want, range(2)))


def test_of_two_at_the_same_moment_exactly_one_has_a_free_lease(store: Store) -> None:
    assert [_race(store) for _ in range(50)] == [1] * 50


def test_of_two_at_the_same_moment_exactly_one_takes_a_dead_lease_over(store: Store) -> None:
    pid, won = dead_pid(), []
    for _ in range(50):
        put(store, here(pid))
        won.append(_race(store))
    assert won == [1] * 50


def test_whoever_found_a_lease_dead_a_moment_ago_takes_no_living_one_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, here(dead_pid()))
    judge, first = lease.is_alive, contextlib.ExitStack()

    def judge_slowly(where: Store, found: Lease) -> bool:
        monkeypatch.setattr(lease, "is_alive", judge)
        alive = judge(where, found)
        first.enter_context(lease.held(store, "reindex"))  # somebody else is faster
        return alive

    monkeypatch.setattr(lease, "is_alive", judge_slowly)
    with first:
        assert not is_free(store)
        found = on_storage(store)
        assert found is not None
        assert found.command == "reindex"
    assert on_storage(store) is None


def test_whoever_took_over_and_was_itself_taken_over_before_it_looked_gives_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, here(dead_pid()))
    other, create = elsewhere(0), Store.create

    def create_and_lose(where: Store, path: str, data: bytes) -> bool:
        created = create(where, path, data)
        if created and path == layout.LEASE:
            put(where, other)
        return created

    monkeypatch.setattr(Store, "create", create_and_lose)
    assert not is_free(store)
    assert on_storage(store) == other


def test_whoever_is_killed_while_taking_over_holds_nobody_up_for_long(folder: Store) -> None:
    claim = f"{layout.LEASE}.claim"
    put(folder, here(dead_pid()))
    folder.create(claim, b"{}")
    started = time.monotonic()
    assert is_free(folder)
    assert time.monotonic() - started < 2 * lease._CLAIM_SECONDS
    assert not folder.exists(claim)


# --- processes of this host ---


def test_a_living_process_keeps_others_out_with_a_line_that_says_who_it_is(store: Store, sleeper: int) -> None:
    put(store, here(sleeper, lease.process_start(sleeper)))
    with pytest.raises(PixdexError) as raised, lease.held(store, "gc"):
        pass
    line = str(raised.value)
    assert "\n" not in line
    for words in ("pixdex reindex", socket.gethostname(), f"process {sleeper}", "2023-11-14 22:13:20 UTC", store.url):
        assert words in line


def test_the_lease_of_a_dead_process_is_taken_over_at_once(store: Store) -> None:
    put(store, here(dead_pid()))
    assert is_free(store)
    assert on_storage(store) is None


def test_a_killed_process_whose_parent_does_not_ask_for_it_is_dead(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    put(store, here(process.pid, lease.process_start(process.pid)))
    assert not is_free(store)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # as in a container whose first process reaps nothing
    try:
        assert is_free(store)
    finally:
        process.wait()


def test_the_start_of_a_process_is_its_own_and_stays(sleeper: int) -> None:
    began = lease.process_start(sleeper)
    assert re.fullmatch(r"\S+ \d+", began)
    assert lease.process_start(sleeper) == began
    assert lease.process_start(os.getpid()) != began
    assert lease.process_start(dead_pid()) == ""


def test_a_number_that_was_given_to_another_process_is_not_taken_for_it(store: Store, sleeper: int) -> None:
    boot, _, ticks = lease.process_start(sleeper).partition(" ")
    put(store, here(sleeper, f"{boot} {int(ticks) - 1}"))
    assert is_free(store)


def test_a_lease_of_before_the_machine_was_started_again_is_dead(store: Store, sleeper: int) -> None:
    put(store, here(sleeper, f"another-boot {lease.process_start(sleeper).split()[1]}"))
    assert is_free(store)


def test_an_earlier_process_of_ones_own_number_is_dead(store: Store) -> None:
    put(store, here(os.getpid(), "another-boot 1"))
    assert is_free(store)


def test_a_process_whose_start_nobody_knows_is_alive_while_its_number_is(store: Store, sleeper: int) -> None:
    put(store, here(sleeper))
    assert not is_free(store)


def test_a_process_of_another_user_is_alive(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    put(store, here(os.getpid(), lease.process_start(os.getpid())))
    monkeypatch.setattr(os, "kill", refuse)
    assert not is_free(store)


# --- another host ---


@pytest.mark.parametrize(("silent", "free"), [(0, False), (JUST_NOW, False), (LONG_AGO, True)])
def test_a_process_of_another_host_is_alive_while_it_renews(store: Store, *, silent: float, free: bool) -> None:
    put(store, elsewhere(silent))
    assert is_free(store) is free


@pytest.mark.parametrize(("age", "free"), [(JUST_NOW, False), (LONG_AGO, True)])
@pytest.mark.parametrize("left", [False, True])
def test_a_silent_one_of_another_host_is_alive_while_its_run_makes_progress(
    folder: Store, *, age: float, left: bool, free: bool
) -> None:
    put(folder, elsewhere(LONG_AGO, 3, left=left))
    old, young = layout.stage_marker(3, "plan"), layout.marker(3, "embed", 9)
    folder.commit(old, StageMarker("plan", 1, 0.0))
    for task in (9, 10):
        folder.create(layout.marker(3, "embed", task), b"{}")
        make_older(folder, layout.marker(3, "embed", task), LONG_AGO)
    make_older(folder, old, LONG_AGO)
    make_older(folder, young, age)
    assert is_free(folder) is free


def test_a_stage_that_was_just_finished_is_progress(folder: Store) -> None:
    put(folder, elsewhere(LONG_AGO, 3))
    folder.commit(layout.stage_marker(3, "plan"), StageMarker("plan", 1, 0.0))
    assert not is_free(folder)


def test_a_lease_that_names_no_run_is_of_the_unfinished_one(folder: Store) -> None:
    request = Request((Source("images", "file:///new"),), EncoderSettings("demo", "f", 2, ("image",)), IndexSettings())
    run = beginning.begin(folder, request)
    put(folder, elsewhere(LONG_AGO))
    assert is_free(folder)

    put(folder, elsewhere(LONG_AGO))
    folder.create(layout.marker(run.generation, "plan", 0), b"{}")
    assert not is_free(folder)


def test_progress_of_another_run_says_nothing(folder: Store) -> None:
    put(folder, elsewhere(LONG_AGO, 3))
    folder.create(layout.marker(4, "plan", 0), b"{}")
    assert is_free(folder)


# --- jobs that go on without the process that started them ---


def test_a_kept_lease_stays_when_the_process_ends(store: Store) -> None:
    with lease.held(store, "reindex") as held:
        held.of_run(5)
        held.keep()
    found = on_storage(store)
    assert found is not None
    assert (found.left, found.run) == (True, 5)
    assert not is_free(store)


@pytest.mark.parametrize("end", [layout.generation, layout.abandoned])
def test_a_kept_lease_is_over_when_its_run_is_published_or_given_up(store: Store, end: object) -> None:
    assert callable(end)
    with lease.held(store, "reindex") as held:
        held.of_run(5)
        held.keep()
    store.create(end(4), b"{}")
    assert not is_free(store)
    store.create(end(5), b"{}")
    assert is_free(store)


def test_a_kept_lease_is_dead_when_its_run_falls_silent_though_its_process_may_live(store: Store) -> None:
    own = here(os.getpid(), lease.process_start(os.getpid()))
    put(store, replace(own, run=5, left=True, renewed=time.time() - JUST_NOW))
    assert not is_free(store)
    put(store, replace(own, run=5, left=True, renewed=time.time() - LONG_AGO))
    assert is_free(store)


# --- renewing, and being taken over ---


def wait_for(what: object, seconds: float = 10) -> None:
    assert callable(what)
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_lease_is_renewed_while_the_block_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.01)
    with lease.held(store, "reindex") as held:
        held.of_run(3)
        first = held.lease.renewed

        def is_renewed() -> bool:
            found = on_storage(store)
            return found is not None and found.renewed > first

        wait_for(is_renewed)
        found = on_storage(store)
        assert found is not None
        assert (found.token, found.since, found.run) == (held.lease.token, held.lease.since, 3)


def test_a_store_that_fails_for_a_moment_stops_neither_work_nor_renewing(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite, failed = Store.overwrite, threading.Event()

    def fail_once(store: Store, path: str, data: bytes) -> None:
        if failed.is_set():
            overwrite(store, path, data)
        else:
            failed.set()
            raise OSError(5, "connection lost")

    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.01)
    monkeypatch.setattr(Store, "overwrite", fail_once)
    with lease.held(folder, "reindex") as held:
        assert failed.wait(10)
        first = held.lease.renewed
        wait_for(lambda: held.lease.renewed > first)


def test_a_holder_that_was_taken_over_neither_overwrites_nor_removes_the_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.01)
    other = elsewhere(0)
    with lease.held(store, "reindex") as held:
        with held.lock:  # not in the middle of renewing
            put(store, other)
        held.renew()
        held.of_run(9)
        time.sleep(0.1)
        assert on_storage(store) == other
    assert on_storage(store) == other


def test_a_holder_that_was_taken_over_can_leave_nothing_in_place(store: Store) -> None:
    other = elsewhere(0)
    with lease.held(store, "reindex") as held:
        put(store, other)
        held.keep()
    assert on_storage(store) == other


def test_a_holder_whose_lease_is_gone_makes_none_anew(store: Store) -> None:
    with lease.held(store, "reindex") as held:
        store.remove(layout.LEASE)
        held.renew()
        assert on_storage(store) is None


@pytest.mark.parametrize("garbage", [b"{", b"{}"])
def test_garbage_in_place_of_a_lease_stops_no_work_that_is_under_way(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.01)
    with lease.held(store, "reindex"):
        store.overwrite(layout.LEASE, garbage)
        wait_for(lambda: "was taken over" in caplog.text)
    assert store.read(layout.LEASE) == garbage


def test_a_store_that_fails_at_the_end_does_not_undo_the_work(
    folder: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "connection lost")

    with lease.held(folder, "gc"):
        monkeypatch.setattr(Store, "remove", fail)
    assert "connection lost" in caplog.text


# --- a root that cannot be written ---


@pytest.mark.parametrize("refusal", [OSError(30, "Read-only file system"), PermissionError(13, "Permission denied")])
def test_a_root_that_cannot_be_written_is_named_with_the_reason(
    store: Store, monkeypatch: pytest.MonkeyPatch, refusal: OSError
) -> None:
    def refuse(*_: Any) -> bool:
        raise refusal

    monkeypatch.setattr(Store, "create", refuse)
    with (
        pytest.raises(UsageError, match=f"--root {re.escape(store.url)} cannot be written") as raised,
        lease.held(store, "gc"),
    ):
        pass
    assert str(refusal.strerror) in str(raised.value)


def test_a_store_that_fails_for_another_reason_is_not_said_to_be_read_only(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "create", fail)
    with pytest.raises(OSError, match="No space left"):
        is_free(folder)


# --- what is no lease ---


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"token": 3}'])
def test_garbage_that_is_young_is_named_and_left_alone(folder: Store, garbage: bytes) -> None:
    folder.overwrite(layout.LEASE, garbage)
    with (
        pytest.raises(PixdexError, match=r"lease\.json is no lease of this pixdex.*delete it"),
        lease.held(folder, "gc"),
    ):
        pass
    assert folder.read(layout.LEASE) == garbage


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"token": 3}'])
def test_garbage_that_is_old_is_as_good_as_dead(folder: Store, garbage: bytes) -> None:
    folder.overwrite(layout.LEASE, garbage)
    make_older(folder, layout.LEASE, LONG_AGO)
    assert is_free(folder)
    assert on_storage(folder) is None


def test_the_lease_of_a_newer_pixdex_is_no_garbage_to_take(folder: Store) -> None:
    put(folder, replace(elsewhere(0), format_version=99))
    with pytest.raises(PixdexError, match="no lease of this pixdex"), lease.held(folder, "gc"):
        pass
