"""Runs a build, looks at its memory and its progress while it works, and kills it on the way where that is wanted."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.instruments.measuring import REPOSITORY, anonymous_bytes, say
from transforms.runs import beacons, beginning
from transforms.runs.progress import RunProgress, StageProgress
from transforms.runs.run import STAGES, Run, Stage
from transforms.storage import layout
from transforms.storage.store import Store

_HALF = 0.5
_TELL_SECONDS = 60.0


@dataclass(frozen=True)
class Kill:
    """When to kill: once `stage` is half done, or has taken `seconds` where nobody can tell how far it is."""

    stage: Stage
    seconds: float


@dataclass(frozen=True)
class Attempt:
    """One run of the command.

    Attributes:
        began, ended: seconds since the epoch.
        cpu_seconds: user and system time.
        memory: `(seconds since the epoch, anonymous bytes)` of the command and all below it, again and again.
        killed: what was done when it was killed; None: it ended by itself.
        output: what it wrote to stdout.
    """

    began: float
    ended: float
    cpu_seconds: float
    memory: list[tuple[float, int]]
    killed: dict[str, Any] | None
    output: str


def run(
    command: Sequence[str],
    log: Path,
    root: Path,
    every: float,
    kill: Kill | None,
    tell: Callable[[Attempt], None],
) -> Attempt:
    """Runs a command that builds in `root`; its stderr is added to `log`. `tell` gets it now and then as it is so far.

    Raises:
        SystemExit: it failed, and was not killed; its last lines are shown.
    """
    memory: list[tuple[float, int]] = []
    watcher = _Watcher(root)
    killed = None
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    with log.open("ab") as errors, log.with_suffix(".out").open("w+b") as output:
        child = subprocess.Popen(command, stdout=output, stderr=errors, cwd=REPOSITORY, start_new_session=True)
        try:
            told = began
            while child.poll() is None:
                if time.time() - told > _TELL_SECONDS:
                    told = time.time()
                    tell(Attempt(began, told, 0.0, memory, standing(root), ""))
                memory.append((round(time.time(), 2), anonymous_bytes(child.pid)))
                if kill is not None and killed is None and (found := watcher.is_half(kill)) is not None:
                    say(f"killing it: {found}")
                    os.killpg(child.pid, signal.SIGKILL)  # its own session, hence its own group
                    killed = found
                time.sleep(every)
        except BaseException:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            raise
        output.seek(0)
        said = output.read().decode()
    ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode and killed is None:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"{' '.join(command)}\nended with exit code {child.returncode}:\n{tail}")
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Attempt(began, ended, round(cpu_seconds, 2), memory, killed, said)


def unfinished(root: Path) -> Run | None:
    """Returns the run of a root that is not published."""
    return beginning.unfinished(Store.at(str(root))) if root.exists() else None


def standing(root: Path) -> dict[str, Any] | None:
    """Says how far the unfinished run of a root is; None: it has none."""
    run = unfinished(root)
    now = RunProgress(run).look().current if run is not None else None
    return None if run is None or now is None else _standing(run, now)


def begun(root: Path) -> Attempt:
    """Returns what the files of a root tell of a command that began a build there, and did not end it.

    Raises:
        SystemExit: there is no such build.
    """
    run, stands = unfinished(root), standing(root)
    if run is None or stands is None:
        raise SystemExit(f"{root} has no build that is not finished: remove it")
    folder = root / layout.plan_folder(run.generation)
    times = [path.stat().st_mtime for path in folder.rglob("*.json")]
    return Attempt(min(times), max(times), 0.0, [], stands | {"at": max(times)}, "")


def _standing(run: Run, now: StageProgress) -> dict[str, Any]:
    numbers = run.numbers(now.stage)
    lit = beacons.read(run, now.stage, set(numbers))
    return {
        "stage": now.stage,
        "at": time.time(),
        "share": now.share and round(now.share, 3),
        "tasks_done": numbers,
        "tasks_at_work": {str(task): beacon.share for task, beacon in lit.items()},
    }


def stage_windows(run: Run, attempts: Sequence[tuple[float, float]]) -> dict[str, list[tuple[float, float]]]:
    """Returns when each stage was worked on, in seconds since the epoch: once, or once before a kill and once after it.

    A stage goes from the marker of the stage before to its own; what comes before the first counts for it.

    Args:
        run: a run whose stages have their markers.
        attempts: when each run of the command began and ended.
    """
    windows: dict[str, list[tuple[float, float]]] = {}
    at = 0.0
    for stage in STAGES:
        marker = run.stage_marker(stage)
        if marker is None:
            continue
        spans = [(max(at, began), min(marker.finished, ended)) for began, ended in attempts]
        windows[stage] = [span for span in spans if span[1] > span[0]]
        at = max(at, marker.finished)
    return windows


class _Watcher:
    """Looks at a run that is at work, from outside."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._progress: RunProgress | None = None
        self._since: float | None = None

    def is_half(self, kill: Kill) -> dict[str, Any] | None:
        """Says what is done when the stage is half done; None before."""
        run = unfinished(self._root)
        if run is None or (STAGES.index(kill.stage) and run.stage_marker(_before(kill.stage)) is None):
            return None
        self._progress = self._progress or RunProgress(run)
        now = self._progress.look().current
        if now is None or now.stage != kill.stage:
            return None
        self._since = self._since or time.time()
        seconds = time.time() - self._since
        share = now.share
        if (share or 0.0) < _HALF and (share or seconds < kill.seconds):
            return None
        return _standing(run, now)


def _before(stage: Stage) -> Stage:
    return STAGES[STAGES.index(stage) - 1]
