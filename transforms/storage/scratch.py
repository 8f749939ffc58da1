"""Temporary folders, named by the host and the process that made them, so that what a dead one left can be told."""

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil


@contextlib.contextmanager
def temporary_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder in `parent`, which is made, or where this machine keeps temporary files; gone with the block."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{socket.gethostname()}-{os.getpid()}-"
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep(parent: Path) -> None:
    """Removes the folders that dead processes of this machine left in `parent`."""
    if not parent.is_dir():
        return
    for folder in parent.iterdir():
        pid = process_of(folder.name)
        if pid is not None and not process_lives(pid):
            shutil.rmtree(folder, ignore_errors=True)


def process_of(folder: str) -> int | None:
    """Returns the process of this machine that made a temporary folder; None where it is of another machine."""
    # The whole name is matched: `node-2-…` is of the host `node-2`, not of process 2 on `node`.
    match = re.fullmatch(re.escape(socket.gethostname()) + r"-(\d+)-[^-]*", folder)
    return int(match[1]) if match else None


def process_lives(pid: int, started: str = "") -> bool:
    """Tells whether a process of this machine is alive.

    One that was killed or ended and is only not yet asked for, as in containers that reap nothing, is dead.

    Args:
        pid: its number, which may have been given away again.
        started: when it began, as `process_start` said it; empty where that is not known.
    """
    try:
        if psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        pass
    now = process_start(pid)
    return not (now and started) or now == started


def process_start(pid: int) -> str:
    """Returns when a process of this machine began, and in which boot; empty where the system does not say.

    As the kernel counts it, in ticks since the boot: a time of day would change when the clock is set.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # The name of the program, in parentheses, may hold anything.
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return f"{boot} {after_name.split()[19]}"
    except (OSError, IndexError):
        return ""
