"""A job that kills its own process at a chosen moment, as a lost machine would: no handler runs, nothing is flushed.

Processes come from a fork server that has imported everything, so that hundreds of deaths take minutes.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

When = Literal["before", "after"]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.end_to_end.builds", "tests.beam_that_remembers", "tests.encoders", "pipelines.running.reindex"]
)

PRIMITIVES = ("link", "replace", "fsync", "truncate", "unlink")
"""Everything of `os` through which a job changes a root so that others see it."""


def work(job: str, argv: Sequence[str], log: Path, calls: Path, kill_at: int, when: When) -> None:
    """Runs a small job; dies before or after the `kill_at`-th call of a primitive, or never when it is 0."""
    from tests.beam_that_remembers import remember  # noqa: PLC0415 - the parent needs none of it
    from tests.end_to_end.builds import make_work_small  # noqa: PLC0415 - nor of this

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = os.fdopen(descriptor, "w", encoding="utf-8")
    patch = pytest.MonkeyPatch()
    make_work_small(patch)
    remember(patch)
    lock, made = threading.Lock(), [0]

    def deadly(primitive: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object, **kwargs: object) -> object:
            with lock:
                made[0] += 1
                mine = made[0]
            if mine == kill_at and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = primitive(*args, **kwargs)
            if mine == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in PRIMITIVES:
        patch.setattr(os, name, deadly(getattr(os, name)))
    code = importlib.import_module(f"pipelines.{job}").main(argv)
    calls.write_text(str(made[0]), encoding="ascii")
    sys.stdout.flush()
    os._exit(code)


def run(
    argv: Sequence[object],
    folder: Path,
    kill_at: int = 0,
    when: When = "before",
    after_seconds: float | None = None,
    job: str = "build",
) -> tuple[int, int]:
    """Runs a job in a process of its own, and kills it from outside after some seconds when told so.

    Returns:
        Its exit code (-9 when it was killed), and how often it called a primitive when it came to its end.
    """
    log, calls = folder / "log.txt", folder / "calls.txt"
    calls.unlink(missing_ok=True)
    words = [str(word) for word in argv]
    process = _CONTEXT.Process(target=work, args=(job, words, log, calls, kill_at, when), daemon=True)
    process.start()
    if after_seconds is not None:
        time.sleep(after_seconds)
        process.kill()
    process.join(600)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"the job hangs: {log.read_text(encoding='utf-8')}")
    assert process.exitcode in (0, -signal.SIGKILL), log.read_text(encoding="utf-8")
    return process.exitcode, int(calls.read_text(encoding="ascii")) if calls.exists() else 0
