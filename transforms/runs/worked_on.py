"""Which process works on a run. A build holds no lease, and whoever watches it wants to know when it has died.

It is for whoever looks on, and nothing else reads it: it may be missing, and of two processes that work on the same run
it names the one that came last.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from transforms.errors import PixdexError
from transforms.record_json import encode
from transforms.records import FORMAT_VERSION
from transforms.runs.run import Run
from transforms.storage import layout
from transforms.storage.scratch import process_lives, process_start


@dataclass(frozen=True)
class Process:
    """A process, and when it began (`storage.scratch.process_start`)."""

    host: str
    pid: int
    started: str
    format_version: int = FORMAT_VERSION

    @classmethod
    def here(cls) -> "Process":
        """Returns this one."""
        return cls(socket.gethostname(), os.getpid(), process_start(os.getpid()))

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended; of another machine nobody here knows."""
        return self.host == socket.gethostname() and not process_lives(self.pid, self.started)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"process {self.pid} on {self.host}"


@contextlib.contextmanager
def by_this_process(run: Run) -> Iterator[None]:
    """Says that this process works on a run while the block runs, and leaves it so where the block fails.

    That it cannot be written is no error.
    """
    own, path = Process.here(), layout.worked_on(run.generation)
    with contextlib.suppress(Exception):  # every store raises its own, and the work does not depend on it
        run.store.overwrite(path, encode(own))
    yield
    with contextlib.suppress(Exception):  # likewise
        if process_of(run) == own:
            run.store.remove(path)


def process_of(run: Run) -> Process | None:
    """Returns the process that works on a run, or was the last to; None where nobody says so."""
    try:
        return run.store.find_record(layout.worked_on(run.generation), Process)
    except PixdexError:
        return None  # of another pixdex
