"""The lease of a root: who writes, since when. It saves work; what saves the data is that every commit is create-only.

A lease is alive while its process lives on this host; on another host, while it was renewed, or a marker of its run was
written, in the last ten minutes. A dead one is taken over at once. Whoever finds a living one leaves with a line.
"""

import contextlib
import datetime
import errno
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from transforms.errors import PixdexError, UsageError
from transforms.record_json import encode
from transforms.records import FORMAT_VERSION
from transforms.runs import beginning
from transforms.runs.run import STAGES, Run
from transforms.storage import layout
from transforms.storage.scratch import process_lives, process_start
from transforms.storage.store import Store

DEAD_SECONDS: Final = 600
RENEWED_EVERY: Final = 60.0

_LOG = logging.getLogger(__name__)
_ATTEMPTS: Final = 40

_NOT_TO_BE_WRITTEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_CLAIM: Final = f"{layout.LEASE}.claim"
"""Who may remove a dead lease; there for a moment only."""

CLAIM_SECONDS: Final = 5
"""Whoever holds it longer was killed."""


@dataclass(frozen=True)
class Clock:
    """What time it is, and how long whoever holds or wants a lease waits, all in seconds.

    Attributes:
        now: since the epoch.
        wait: lets so many seconds pass.
        renewed_every: between two signs of life of a lease that is held.
        between_attempts: before one who wants a lease that another is just taking over looks again.
    """

    now: Callable[[], float] = time.time
    wait: Callable[[float], None] = time.sleep
    renewed_every: float = RENEWED_EVERY
    between_attempts: float = 0.25


REAL_TIME: Final = Clock()


@dataclass(frozen=True)
class Lease:
    """Who writes.

    Attributes:
        token: tells this lease from any other.
        host, pid, started: the process, and when it began as the kernel counts it, so that a number that was given
            away again is not taken for it; empty where the system does not say.
        command: what it runs.
        since, renewed: seconds since the epoch.
        run: the generation that it makes, when it has begun one.
        left: the process ended, and its job goes on without it.
    """

    token: str
    host: str
    pid: int
    started: str
    command: str
    since: float
    renewed: float
    run: int | None = None
    left: bool = False
    format_version: int = FORMAT_VERSION


@dataclass
class Held:
    """A lease that this process has."""

    store: Store
    lease: Lease
    clock: Clock = REAL_TIME
    kept: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of_run(self, generation: int) -> None:
        """Says which generation is being made."""
        self.renew(run=generation)

    def keep(self) -> None:
        """Leaves the lease to a job that goes on without this process, until its run is finished or falls silent."""
        self.kept = True
        self.renew(left=True)

    def renew(self, *, run: int | None = None, left: bool = False) -> None:
        """Says that it is alive; one that was taken over is left to who has it now."""
        with self.lock:
            if not self.is_ours():
                _LOG.warning("%s/%s was taken over by another process", self.store.url, layout.LEASE)
                return
            run = self.lease.run if run is None else run
            self.lease = replace(self.lease, renewed=self.clock.now(), run=run, left=left)
            self.store.overwrite(layout.LEASE, encode(self.lease))

    def is_ours(self) -> bool:
        """Tells whether the lease on storage is this one; what cannot be read is not."""
        try:
            current = self.store.find_record(layout.LEASE, Lease)
        except PixdexError:
            return False
        return current is not None and current.token == self.lease.token

    def give_back(self) -> None:
        """Removes it, if it is still this one; the work is done, whether or not that succeeds."""
        with self.lock:
            try:
                if self.is_ours():
                    self.store.remove(layout.LEASE)
            except OSError as error:  # of a process that has ended it is dead in any case
                _LOG.warning("%s/%s could not be removed: %s", self.store.url, layout.LEASE, error)


@contextlib.contextmanager
def held(store: Store, command: str, clock: Clock = REAL_TIME) -> Iterator[Held]:
    """Holds the lease of a root while the block runs.

    Raises:
        PixdexError: another process has it; says which, and since when.
        UsageError: the root cannot be written.
    """
    holding = Held(store, _take(store, command, clock), clock)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(holding, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield holding
    finally:
        ended.set()
        renewing.join()
        if not holding.kept:
            holding.give_back()


def _take(store: Store, command: str, clock: Clock) -> Lease:
    try:
        return _create(store, command, clock)
    except OSError as error:
        if error.errno not in _NOT_TO_BE_WRITTEN and not isinstance(error, PermissionError):
            raise
        raise UsageError(
            f"--root {store.url} cannot be written ({error.strerror or error}), and {command} writes to it: "
            "mend its permissions, or work on a copy"
        ) from error


def _create(store: Store, command: str, clock: Clock) -> Lease:
    now = clock.now()
    wanted = Lease(uuid.uuid4().hex, socket.gethostname(), os.getpid(), process_start(os.getpid()), command, now, now)
    for _ in range(_ATTEMPTS):
        created = store.create(layout.LEASE, encode(wanted))
        current = _read(store, clock)
        if current is None:
            continue  # given back meanwhile
        if current.token == wanted.token:
            return wanted
        if created:  # whoever found the one before dead removed this one instead, and was faster
            _LOG.info("the lease of %s was taken over by %s", store.url, who(current))
        if is_alive(store, current, clock):
            raise PixdexError(_busy(store, current))
        _LOG.info("the lease of %s is dead: taking it over", who(current))
        _remove_dead(store, current, clock)
    raise PixdexError(f"{store.url}: several processes want to write at once: run the same command again")


def _remove_dead(store: Store, dead: Lease, clock: Clock) -> None:
    """Removes a dead lease, one process at a time: whoever found it dead a moment ago must not take the next one."""
    if not store.create(_CLAIM, b"{}\n"):
        if clock.now() - store.changed(_CLAIM) > CLAIM_SECONDS:
            store.remove(_CLAIM)
        else:
            clock.wait(clock.between_attempts)
        return
    try:
        current = _read(store, clock)
        if current is not None and current.token == dead.token:
            store.remove(layout.LEASE)
    finally:
        store.remove(_CLAIM)


def current(store: Store) -> Lease | None:
    """Returns the lease of a root, whoever has it; None: nobody has, or it cannot be read."""
    try:
        return store.find_record(layout.LEASE, Lease)
    except PixdexError:
        return None


def is_alive(store: Store, lease: Lease, clock: Clock = REAL_TIME) -> bool:
    """Tells whether a lease still means that somebody writes."""
    if lease.run is not None and lease.left and _is_over(store, lease.run):
        return False
    if not lease.left and lease.host == socket.gethostname():
        return process_lives(lease.pid, lease.started)
    return clock.now() - max(lease.renewed, last_marker(store, lease.run)) < DEAD_SECONDS


def _is_over(store: Store, run: int) -> bool:
    return store.exists(layout.generation(run)) or store.exists(layout.abandoned(run))


def last_marker(store: Store, run: int | None) -> float:
    """Returns when the newest marker of a run was written, in seconds since the epoch; 0 where there is none.

    `run` is its generation; None: of the run that is not finished, if any.
    """
    number = run
    if number is None:
        unfinished = beginning.unfinished(store)
        number = None if unfinished is None else unfinished.generation
    if number is None:
        return 0.0
    open_stage = next((stage for stage in STAGES if Run(store, number).stage_marker(stage) is None), "publish")
    folders = [layout.marker_folder(number, open_stage), layout.marker_folder(number, "stages")]
    return max([0.0, *(store.newest(folder) for folder in folders)])


def _renew(holding: Held, ended: threading.Event) -> None:
    while not ended.wait(holding.clock.renewed_every):
        try:
            holding.renew()
        except OSError as error:  # a store may fail for a moment, and the work goes on
            _LOG.warning("the lease of %s could not be renewed: %s", holding.store.url, error)


def _read(store: Store, clock: Clock) -> Lease | None:
    try:
        return store.find_record(layout.LEASE, Lease)
    except PixdexError as error:
        # No lease at all, for one is never written in place. One that is old is as good as dead.
        if clock.now() - store.changed(layout.LEASE) < DEAD_SECONDS:
            raise PixdexError(
                f"{store.url}/{layout.LEASE} is no lease of this pixdex: if nothing writes to this root, delete it"
            ) from error
        return Lease("", "", 0, "", "", 0.0, 0.0)


def _busy(store: Store, lease: Lease) -> str:
    since = datetime.datetime.fromtimestamp(lease.since, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"{store.url} is being written by {who(lease)} since {since}: wait for it; the lease of a process that died "
        "is taken over at once"
    )


def who(lease: Lease) -> str:
    """Says in words who has a lease."""
    return f"pixdex {lease.command} on {lease.host} (process {lease.pid})"
