"""Runs a command and says what it took: seconds, CPU seconds, and the most anonymous memory of all its processes.

Anonymous memory is what a process has allocated: mapped files, which the kernel can drop at any time, do not count.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: from start to exit.
        cpu_seconds: user and system time of the command and of the processes that it waited for.
        peak_anonymous: bytes; the sum over the processes alive at one moment, at its highest.
        peak_after: seconds after the start at which that was.
        output: what it wrote to stdout.
    """

    seconds: float
    cpu_seconds: float
    peak_anonymous: int
    peak_after: float
    output: str

    def last_json(self) -> dict[str, Any]:
        """Reads the last line of stdout."""
        found: dict[str, Any] = json.loads(self.output.strip().splitlines()[-1])
        return found


class _Sampler:
    """Looks at a process and all below it, again and again, until told to stop."""

    def __init__(self, pid: int, every: float) -> None:
        self._pid, self._every, self._since = pid, every, time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self.peak, self.peak_after = 0, 0.0
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(self._every):
            found = anonymous_bytes(self._pid)
            if found > self.peak:
                self.peak, self.peak_after = found, time.monotonic() - self._since

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def run(command: Sequence[str], log: Path, every: float = 0.05) -> Measured:
    """Runs a command in the repository; what it writes to stderr goes to `log`.

    Args:
        command: the program and its arguments.
        log: a file that is written anew.
        every: seconds between two looks at its memory; a look costs about a millisecond a process.

    Raises:
        SystemExit: the command failed; its last lines are shown.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with log.open("wb") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=REPOSITORY)
        sampler = _Sampler(child.pid, every)
        try:
            output, _ = child.communicate()
        except BaseException:
            child.kill()
            raise
        finally:
            sampler.end()
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"{' '.join(command)}\nended with exit code {child.returncode}:\n{tail}")
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(round(seconds, 3), round(cpu_seconds, 3), sampler.peak, round(sampler.peak_after, 3), output)


def anonymous_bytes(pid: int) -> int:
    """Returns the anonymous memory of a process and of all below it, in bytes; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(_anonymous_bytes(member.pid) for member in family)


def _anonymous_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended since it was listed
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)


def remember(file: Path, runs: Sequence[Measured]) -> None:
    """Keeps what a peer took, so that our side can be measured again without it."""
    file.write_text(json.dumps([asdict(one) for one in runs]))


def remembered(file: Path, *beside: Path) -> list[Measured]:
    """Returns the runs that a file keeps; none when it, or a file that belongs to it, is not there."""
    if not all(needed.exists() for needed in (file, *beside)):
        return []
    return [Measured(**found) for found in json.loads(file.read_text())]


def machine() -> dict[str, Any]:
    """Returns what the figures of a report depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model or platform.processor(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "load_before": round(psutil.getloadavg()[0], 2),
    }


def say(line: str) -> None:
    """Shows progress on stderr; stdout is for the tables."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def warm(files: Sequence[Path]) -> None:
    """Reads files once, so that whoever comes first does not pay for the disk."""
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.read(1 << 24):
                pass
