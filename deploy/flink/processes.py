"""Processes that belong to a run folder: a file with the id and a log for each, and nothing else is ever stopped.

When a process started is read from /proc, in ticks since the machine did: psutil gives the time of day, which a clock
that is put right moves, and a process would be taken for another.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from errors import ClusterError

SECONDS_TO_START: Final = 90.0
SECONDS_TO_STOP: Final = 10.0


def started_at(pid: int) -> str:
    """When a process started, in ticks since the machine did; with its id it names a process for ever. Or ""."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def running(run: Path, name: str) -> int | None:
    """The id of a process of this cluster, if it runs."""
    try:
        pid, ticks = (run / f"{name}.pid").read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if ticks and started_at(int(pid)) == ticks and not _zombie(int(pid)) else None


def spawn(run: Path, name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Starts a process of the cluster, if it does not run, and notes its id.

    Its log begins anew, for that is where it says that it is ready; the log before stays as `NAME.log.1`.
    """
    if running(run, name) is not None:
        return
    said = run / f"{name}.log"
    with contextlib.suppress(FileNotFoundError):
        said.replace(run / f"{name}.log.1")
    with said.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=run,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    (run / f"{name}.pid").write_text(f"{process.pid} {started_at(process.pid)}\n")


def end(run: Path, name: str) -> None:
    """Ends a process of the cluster, by force if it does not obey."""
    pid = running(run, name)
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if pid is None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
        until = time.monotonic() + SECONDS_TO_STOP
        while running(run, name) is not None and time.monotonic() < until:
            time.sleep(0.05)
        pid = running(run, name)
    (run / f"{name}.pid").unlink(missing_ok=True)


def wait(run: Path, names: Sequence[str], what: str, ready: Callable[[], bool]) -> None:
    """Waits until something is ready.

    Raises:
        ClusterError: one of the processes that it takes ended, or it took too long.
    """
    until = time.monotonic() + SECONDS_TO_START
    while not ready():
        for name in names:
            if running(run, name) is None:
                raise ClusterError(
                    f"{what} does not start: {_last_error(run / f'{name}.log')}; all of it is in that file"
                )
        if time.monotonic() > until:
            raise ClusterError(f"{what} is not there after {SECONDS_TO_START:.0f} s: look at the logs in {run}")
        time.sleep(0.2)


def _zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _last_error(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(pixdex:|Caused by:|Error|Exception)", line)]
    return f"{(telling or lines or ['it said nothing'])[-1]} ({log})"
