"""Which lease is alive: of a process of this host, of another host, of a job that goes on alone."""

import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from tests.transforms.upkeep.leases import (
    JUST_NOW,
    LONG_AGO,
    dead_pid,
    elsewhere,
    here,
    is_free,
    make_older,
    on_storage,
    put,
)
from transforms.errors import PixdexError
from transforms.markers import StageMarker
from transforms.records import EncoderSettings, IndexSettings, Request, Source
from transforms.runs import beginning
from transforms.storage import layout
from transforms.storage.scratch import process_start
from transforms.storage.store import Store
from transforms.upkeep import lease

# --- processes of this host ---


def test_a_living_process_keeps_others_out_with_a_line_that_says_who_it_is(store: Store, sleeper: int) -> None:
    put(store, here(sleeper, process_start(sleeper)))
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
    put(store, here(process.pid, process_start(process.pid)))
    assert not is_free(store)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # as in a container whose first process reaps nothing
    try:
        assert is_free(store)
    finally:
        process.wait()


def test_the_start_of_a_process_is_its_own_and_stays(sleeper: int) -> None:
    began = process_start(sleeper)
    assert re.fullmatch(r"\S+ \d+", began)
    assert process_start(sleeper) == began
    assert process_start(os.getpid()) != began
    assert process_start(dead_pid()) == ""


def test_a_number_that_was_given_to_another_process_is_not_taken_for_it(store: Store, sleeper: int) -> None:
    boot, _, ticks = process_start(sleeper).partition(" ")
    put(store, here(sleeper, f"{boot} {int(ticks) - 1}"))
    assert is_free(store)


def test_a_lease_of_before_the_machine_was_started_again_is_dead(store: Store, sleeper: int) -> None:
    put(store, here(sleeper, f"another-boot {process_start(sleeper).split()[1]}"))
    assert is_free(store)


def test_an_earlier_process_of_ones_own_number_is_dead(store: Store) -> None:
    put(store, here(os.getpid(), "another-boot 1"))
    assert is_free(store)


def test_a_process_whose_start_nobody_knows_is_alive_while_its_number_is(store: Store, sleeper: int) -> None:
    put(store, here(sleeper))
    assert not is_free(store)


def test_a_process_of_another_user_is_alive(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    put(store, here(os.getpid(), process_start(os.getpid())))
    monkeypatch.setattr(psutil.Process, "status", refuse)
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
    current = on_storage(store)
    assert current is not None
    assert (current.left, current.run) == (True, 5)
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
    own = here(os.getpid(), process_start(os.getpid()))
    put(store, replace(own, run=5, left=True, renewed=time.time() - JUST_NOW))
    assert not is_free(store)
    put(store, replace(own, run=5, left=True, renewed=time.time() - LONG_AGO))
    assert is_free(store)
