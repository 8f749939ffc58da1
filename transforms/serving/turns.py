"""Whose turn it is: work in a bounded number of threads, of which a bounded number waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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
        self._pool = ThreadPoolExecutor(min(threads, at_once), what, begin)
        self._taken = 0

    async def run(self, do: Callable[..., T], *given: Any) -> T:
        """Returns what `do` does in one of the threads.

        Raises:
            BusyError: as many wait as may.
            LateError: it takes too long.
        """
        if self._taken >= self._at_once:
            raise BusyError(f"{self._at_once} {self._what} are asked for at once, which is the limit: come again")
        loop = asyncio.get_running_loop()
        self._taken += 1
        work = self._pool.submit(do, *given)
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
        """Begins nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _give_back(self) -> None:
        self._taken -= 1


def _hear(work: "Future[Any] | asyncio.Future[Any]") -> None:
    """Takes note of an error that nobody waits for."""
    if not work.cancelled():
        work.exception()
