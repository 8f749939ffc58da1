"""Leases that others hold, on storage as they would have left them."""

import os
import socket
import subprocess
import sys
import time
import uuid

from transforms.errors import PixdexError
from transforms.record_json import encode
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.upkeep import lease
from transforms.upkeep.lease import Clock, Lease

SINCE = 1_700_000_000.0
"""2023-11-14 22:13:20 UTC."""

LONG_AGO = lease.DEAD_SECONDS + 60
JUST_NOW = lease.DEAD_SECONDS - 60

IMPATIENT = Clock(between_attempts=0.001)
RESTLESS = Clock(renewed_every=0.01)


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


def is_free(store: Store, clock: Clock = IMPATIENT) -> bool:
    try:
        with lease.held(store, "gc", clock):
            return True
    except PixdexError as error:
        assert "is being written by" in str(error)
        return False


def make_older(store: Store, path: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(store.local_path(path), (then, then))
