"""Whose turn it is: work in a bounded number of threads, of which a bounded number waits."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from transforms.serving.faults import BusyError, LateError

T = TypeVar("T")


class Turns:
    """Threads for work of one kind. What was begun is done, even where nobody waits any more, and counts until then."""

    def __init__(
        self, what: str, threads: int, at_once: int, seconds: float, begin: Callable[[], object] | None = None
    ) -> None:
        """Starts nothing yet.

        Args:
            what: the work, as a refusal names it.
            threads: that work at once.
            at_once: pieces of work that are done or wait.
            seconds: that one may take, waiting for its turn included.
            begin: is called by each thread, first.
        """
        self._what, self._at_once, self._seconds = what, at_once, seconds
        self._threads = _Threads(what, min(threads, at_once), begin)
        self._taken, self._is_closed = 0, False

    async def run(self, do: Callable[..., T], *given: Any) -> T:
        """Returns what `do` does in one of the threads.

        Raises:
            BusyError: as many wait as may, or it is closed.
            LateError: it takes too long.
        """
        if self._is_closed:
            raise BusyError("the server ends: come again")
        if self._taken >= self._at_once:
            raise BusyError(f"{self._at_once} {self._what} are asked for at once, which is the limit: come again")
        loop = asyncio.get_running_loop()
        self._taken += 1
        work = self._threads.submit(lambda: do(*given))
        work.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._give_back))
        waited = asyncio.wrap_future(work)
        waited.add_done_callback(_hear)
        try:
            return await asyncio.wait_for(asyncio.shield(waited), self._seconds)
        except TimeoutError:
            if waited.done() and not waited.cancelled():
                raise  # of the work itself
            work.cancel()  # it never begins, unless it has
            raise LateError(f"{self._what} take longer than {self._seconds:g} s: ask for less, or later") from None

    def close(self) -> None:
        """Begins nothing more, and waits for nothing."""
        self._is_closed = True
        self._threads.close()

    def _give_back(self) -> None:
        self._taken -= 1


class _Threads:
    """Threads that the end of the process does not wait for, as it would for those of `concurrent.futures`.

    Work that hangs, as on a mount that does not answer, would keep the process otherwise, and nobody waits for it.
    """

    def __init__(self, name: str, most: int, begin: Callable[[], object] | None) -> None:
        self._name, self._most, self._begin = name, most, begin
        self._lock = threading.Lock()
        self._started = self._unfinished = 0
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def submit(self, do: Callable[[], T]) -> "Future[T]":
        """Has a thread do something; one is started where all that there are have work."""
        work: Future[T] = Future()
        with self._lock:
            self._unfinished += 1
            self._waiting.put((work, do))
            if self._started < min(self._most, self._unfinished):
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        return work

    def close(self) -> None:
        """Cancels what is not begun, and lets the threads end."""
        cancelled = []
        with self._lock:
            with contextlib.suppress(queue.Empty):
                while True:
                    if (one := self._waiting.get_nowait()) is not None:
                        cancelled.append(one[0])
            for _ in range(self._started):
                self._waiting.put(None)
        for work in cancelled:
            work.cancel()
            work.set_running_or_notify_cancel()

    def _work(self) -> None:
        if self._begin is not None:
            self._begin()
        while (one := self._waiting.get()) is not None:
            self._do(*one)
            del one  # what it was given, and what came of it, is not kept until the next comes
            with self._lock:
                self._unfinished -= 1

    @staticmethod
    def _do(work: "Future[T]", do: Callable[[], T]) -> None:
        if not work.set_running_or_notify_cancel():
            return
        try:
            result = do()
        except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
            work.set_exception(error)
        else:
            work.set_result(result)


def _hear(work: "Future[Any] | asyncio.Future[Any]") -> None:
    """Takes note of an error that nobody waits for."""
    if not work.cancelled():
        work.exception()
