"""How many CPU threads the mathematics of this process uses, and threads for work that falls into independent parts.

BLAS has one number of threads for the whole process, and another number may change the last bits of a product. Bundles
that run beside each other in one process must therefore not take each other's number away: whoever wants the number
that stands joins, and whoever wants another waits until all have left. OpenMP has a number for each thread.
"""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from threadpoolctl import get_cached_controller


def _libraries(*, shared: bool) -> Any:  # threadpoolctl is untyped
    """The BLAS libraries with one number for the process; or OpenMP, and the BLAS built with it, with one a thread.

    They are selected: at its end, a limit brings back the numbers of all libraries that it was made from.
    """
    libraries = get_cached_controller()
    blas = [
        library.filepath
        for library in libraries.lib_controllers
        if library.user_api == "blas" and getattr(library, "threading_layer", "") != "openmp"
    ]
    others = [library.filepath for library in libraries.lib_controllers if library.filepath not in blas]
    return libraries.select(filepath=blas if shared else others)


def _set_threads(library: Any, threads: int) -> None:
    # For the thread that asked first, threadpoolctl 3.8 keeps others from setting the number, as long as it lives.
    getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)


class _Gate:
    """The number of BLAS threads of a process: the first in sets it, the last out brings the one before back."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: Counter[int] = Counter()  # threads that are in, and how often
        self._threads = 0
        self._before: list[tuple[Any, int]] = []

    def enter(self, threads: int) -> int:
        """Waits until `threads` is the number, and returns what `leave` takes."""
        me = threading.get_ident()
        with self._changed:
            if self._inside[me] and self._threads != threads:
                raise RuntimeError(f"{threads} threads are asked for within {self._threads}: leave these first")
            self._changed.wait_for(lambda: not self._inside.total() or self._threads == threads)
            if not self._inside.total():
                self._threads = threads
                self._before = [(each, each.get_num_threads()) for each in _libraries(shared=True).lib_controllers]
                for library, _ in self._before:
                    _set_threads(library, threads)
            self._inside[me] += 1
        return me

    def leave(self, entered: int) -> None:
        """Leaves, maybe from another thread than that which entered."""
        with self._changed:
            self._inside[entered] -= 1
            self._inside = +self._inside
            if not self._inside.total():
                for library, threads in self._before:
                    _set_threads(library, threads)
                self._changed.notify_all()


_GATE = _Gate()  # of the process, as the number is


@contextlib.contextmanager
def limited(threads: int) -> Iterator[None]:
    """Limits faiss, numpy and the like to so many threads in this thread, and their BLAS in this process.

    Waits for those in this process that asked for another number. Not within another number: RuntimeError.
    """
    entered = _GATE.enter(threads)
    try:
        with limited_here(threads):
            yield
    finally:
        _GATE.leave(entered)


def limited_here(threads: int) -> contextlib.AbstractContextManager[object]:
    """Limits faiss, and whatever else uses OpenMP, to so many threads in this thread; no product is made in it."""
    limits: contextlib.AbstractContextManager[object] = _libraries(shared=False).limit(limits=threads)
    return limits


@contextlib.contextmanager
def each_limited(workers: int, threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `workers` threads in each of which faiss, numpy and the like use so many threads, while it lasts."""

    with limited(threads), ThreadPoolExecutor(workers, "work", lambda: limited_here(threads)) as pool:
        yield pool


def each_with_one_thread(workers: int) -> contextlib.AbstractContextManager[ThreadPoolExecutor]:
    """A pool of threads in each of which faiss, numpy and the like use no other thread, for as long as it lasts.

    The threads of one small matrix product mostly wait for each other; those of several products do not. And what one
    thread computes does not depend on how many there are.
    """
    return each_limited(workers, 1)
