"""Beacons: how far a task is that has no marker yet, as its worker writes it every few seconds.

A marker is created once and is the truth; a beacon is written over and over, may be missing or old, and goes when its
task is done. It is for whoever looks on, and nothing else reads it: with few large shards markers alone tell little.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from transforms.errors import PixdexError
from transforms.record_json import encode
from transforms.records import FORMAT_VERSION
from transforms.runs.run import Run, Stage
from transforms.storage import layout

SECONDS: Final = (5.0, 10.0)
"""Between two writes: on a filesystem, and on an object store, where each is paid for."""

_FIRST_SECONDS: Final = 2.0
"""A task that takes less writes none."""

OLD_SECONDS: Final = 60.0
"""Whoever wrote one that is older was killed; clocks of machines may differ by some seconds."""

_READERS: Final = 16
_SECONDS_TO_END: Final = 1.0


@dataclass(frozen=True)
class Beacon:
    """So much of a task, 0 to 1, was done at a time, in seconds since the epoch."""

    share: float
    at: float
    format_version: int = FORMAT_VERSION


@dataclass
class Told:
    """What a task tells of itself, from one thread: the share that is done, 0 to 1."""

    share: float = 0.0

    def of(self, done: float, planned: float) -> None:
        """Says how much is done; less than was said before changes nothing."""
        self.share = min(1.0, max(self.share, done / planned if planned else 0.0))


@contextlib.contextmanager
def lit(
    run: Run, stage: Stage, task: int, *, first: float = _FIRST_SECONDS, every: float | None = None
) -> Iterator[Told]:
    """Writes a beacon for a task while the block runs, in a thread of its own; takes what the block tells.

    The marker is to be committed in the block: the beacon goes after it, and no commit waits for a beacon. That one
    cannot be written is no error.

    Cost: a sleeping thread; a small write every 5 seconds, of a task that takes longer than 2.
    """
    told, ended = Told(), threading.Event()
    every = every or SECONDS[run.store.local is None]
    path = layout.beacon(run.generation, stage, task)

    def write() -> None:
        wait, tried = first, False
        while not ended.wait(wait):
            with contextlib.suppress(Exception):  # every store raises its own, and the work does not depend on it
                run.store.overwrite(path, encode(Beacon(told.share, time.time())))
            wait, tried = every, True
        if tried:  # by the thread that wrote it: no write that is slow comes after
            with contextlib.suppress(Exception):  # likewise
                run.store.remove(path)

    thread = threading.Thread(target=write, name="beacon", daemon=True)
    thread.start()
    try:
        yield told
    finally:
        ended.set()
        thread.join(_SECONDS_TO_END)


def read(run: Run, stage: Stage, done: Collection[int], now: Callable[[], float] = time.time) -> dict[int, Beacon]:
    """Returns the beacons of the tasks of a stage that are at work: neither done nor old.

    Cost: a listing, and a small read for each.
    """
    names = run.store.names(layout.beacon_folder(run.generation, stage))
    tasks = [int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdecimal()]
    working = [task for task in tasks if task not in done]
    if not working:
        return {}
    with ThreadPoolExecutor(min(_READERS, len(working)), "beacons") as pool:
        found = dict(zip(working, pool.map(lambda task: _read(run, stage, task), working), strict=True))
    return {task: one for task, one in found.items() if one is not None and now() - one.at <= OLD_SECONDS}


def clear(run: Run) -> None:
    """Removes what killed workers left; one that is at work writes its own again."""
    with contextlib.suppress(Exception):  # likewise: a role that may remove nothing is to go on with its run
        run.store.remove_folder(layout.beacons(run.generation))


def _read(run: Run, stage: Stage, task: int) -> Beacon | None:
    try:
        found = run.store.find_record(layout.beacon(run.generation, stage, task), Beacon)
    except PixdexError:
        return None  # of another pixdex
    return found if found is not None and 0 <= found.share <= 1 else None
