"""The lease of a root: one writes at a time, and what is no lease is no hindrance."""

import contextlib
import os
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.transforms.upkeep.leases import (
    IMPATIENT,
    LONG_AGO,
    dead_pid,
    elsewhere,
    here,
    is_free,
    make_older,
    on_storage,
    put,
)
from transforms.errors import PixdexError, UsageError
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep import lease
from transforms.upkeep.lease import Clock, Lease

# --- one at a time ---


def test_a_lease_is_there_while_the_block_runs_and_gone_after_it(store: Store) -> None:
    with lease.held(store, "reindex") as held:
        current = on_storage(store)
        assert current == held.lease
        assert (current.host, current.pid, current.command) == (socket.gethostname(), os.getpid(), "reindex")
        assert abs(current.since - time.time()) < 60
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
        current = on_storage(store)
        assert current is not None
        assert current.run == 7


def _race(store: Store) -> int:
    """How many of two that want the lease at the same moment have it at the same moment."""
    begin, end = threading.Barrier(2), threading.Barrier(2)

    def want(_: int) -> bool:
        begin.wait(30)
        try:
            with lease.held(store, "reindex", IMPATIENT):
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

    def judge_slowly(where: Store, looked_at: Lease, clock: Clock) -> bool:
        monkeypatch.setattr(lease, "is_alive", judge)
        alive = judge(where, looked_at, clock)
        first.enter_context(lease.held(store, "reindex"))  # somebody else is faster
        return alive

    monkeypatch.setattr(lease, "is_alive", judge_slowly)
    with first:
        assert not is_free(store)
        current = on_storage(store)
        assert current is not None
        assert current.command == "reindex"
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
    waited: list[float] = []
    assert is_free(folder, Clock(now=lambda: time.time() + sum(waited), wait=waited.append))
    assert 0 < sum(waited) < 2 * lease.CLAIM_SECONDS
    assert not folder.exists(claim)


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
