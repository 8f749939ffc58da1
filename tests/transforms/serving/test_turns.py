"""Work that hangs, as on a mount that does not answer, keeps nobody else waiting, and no process from ending."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from tests.conftest import REPOSITORY
from transforms.serving.faults import BusyError, LateError
from transforms.serving.turns import Turns

Result = TypeVar("Result")

HANGS = """
import asyncio, time
from pipelines.terminal import process
from transforms.serving.faults import LateError
from transforms.serving.turns import Turns

async def late():
    turns = Turns("pictures", 2, 4, 0.2)
    try:
        await turns.run(time.sleep, 60)
    except LateError:
        turns.close()
        return 7

process.run(lambda: asyncio.run(late()))
"""


def ran(asked: Coroutine[object, object, Result]) -> Result:
    """What ``asked`` returns, in a loop of its own: a browser of the same process may have one in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asked).result(60)


def test_a_process_ends_while_its_work_hangs() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGS], cwd=REPOSITORY, timeout=90, check=False)
    assert done.returncode == 7 and time.monotonic() - began < 30


def test_each_piece_of_work_gets_its_result_or_its_error() -> None:
    async def all_of() -> list[object]:
        turns = Turns("pieces", 3, 50, 20)
        asked = (turns.run(divmod, 7, place) for place in range(40))
        return list(await asyncio.gather(*asked, return_exceptions=True))

    results = ran(all_of())
    assert isinstance(results[0], ZeroDivisionError) and results[1:] == [divmod(7, place) for place in range(1, 40)]


def test_no_more_threads_work_than_may_each_begun_as_told() -> None:
    begun: list[str] = []
    seen: set[str] = set()

    def work() -> None:
        seen.add(threading.current_thread().name)
        time.sleep(0.01)

    async def asked() -> None:
        turns = Turns("pieces", 2, 50, 20, lambda: begun.append(threading.current_thread().name))
        await asyncio.gather(*(turns.run(work) for _ in range(20)))
        turns.close()

    ran(asked())
    assert set(begun) == seen and len(begun) == 2


def test_work_that_waits_is_not_begun_once_nobody_waits_for_it_or_all_is_closed() -> None:
    done: list[str] = []
    go_on = threading.Event()

    async def asked() -> None:
        turns = Turns("pieces", 1, 3, 0.2)
        first = asyncio.create_task(turns.run(go_on.wait, 20))
        await asyncio.sleep(0.05)
        with pytest.raises(LateError, match="take longer than"):
            await turns.run(done.append, "late")
        with pytest.raises(LateError):
            await first
        waits = asyncio.create_task(turns.run(done.append, "closed"))
        await asyncio.sleep(0.05)
        turns.close()
        with pytest.raises(asyncio.CancelledError):
            await waits
        with pytest.raises(BusyError):
            await turns.run(done.append, "after")
        go_on.set()

    ran(asked())
    time.sleep(0.1)
    assert done == []
