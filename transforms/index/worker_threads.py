"""Threads for work that falls into independent parts."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits


@contextlib.contextmanager
def each_with_one_thread(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in each of which faiss, numpy and the like use no other thread, for as long as it lasts.

    The threads of one small matrix product mostly wait for each other; those of several products do not. And what one
    thread computes does not depend on how many there are.
    """
    with threadpool_limits(1), ThreadPoolExecutor(workers, "work", lambda: threadpool_limits(1)) as pool:
        yield pool
