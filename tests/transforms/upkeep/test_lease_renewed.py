"""A lease that is held: it is renewed, and it may be taken over."""

import threading
import time

import pytest

from tests.transforms.upkeep.leases import RESTLESS, elsewhere, on_storage, put
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep import lease


def wait_for(what: object, seconds: float = 10) -> None:
    assert callable(what)
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_lease_is_renewed_while_the_block_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with lease.held(store, "reindex", RESTLESS) as held:
        held.of_run(3)
        first = held.lease.renewed

        def is_renewed() -> bool:
            current = on_storage(store)
            return current is not None and current.renewed > first

        wait_for(is_renewed)
        current = on_storage(store)
        assert current is not None
        assert (current.token, current.since, current.run) == (held.lease.token, held.lease.since, 3)


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

    monkeypatch.setattr(Store, "overwrite", fail_once)
    with lease.held(folder, "reindex", RESTLESS) as held:
        assert failed.wait(10)
        first = held.lease.renewed
        wait_for(lambda: held.lease.renewed > first)


def test_a_holder_that_was_taken_over_neither_overwrites_nor_removes_the_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = elsewhere(0)
    with lease.held(store, "reindex", RESTLESS) as held:
        with held.lock:  # not in the middle of renewing
            put(store, other)
        held.renew()
        held.of_run(9)
        time.sleep(0.1)
        assert on_storage(store) == other
    assert on_storage(store) == other


def test_a_holder_that_was_taken_over_can_leave_nothing_in_place(store: Store) -> None:
    other = elsewhere(0)
    with lease.held(store, "reindex", RESTLESS) as held:
        put(store, other)
        held.keep()
    assert on_storage(store) == other


def test_a_holder_whose_lease_is_gone_makes_none_anew(store: Store) -> None:
    with lease.held(store, "reindex", RESTLESS) as held:
        store.remove(layout.LEASE)
        held.renew()
        assert on_storage(store) is None


@pytest.mark.parametrize("garbage", [b"{", b"{}"])
def test_garbage_in_place_of_a_lease_stops_no_work_that_is_under_way(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    with lease.held(store, "reindex", RESTLESS):
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
