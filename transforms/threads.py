"""How many CPU threads the mathematics of a run uses: another number may change the last bits of what it makes."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits

from transforms.run import Run


def threads(run: Run) -> AbstractContextManager[object]:
    """Limits faiss, numpy and every other thread pool of this process to the threads of the request, for a while."""
    limits: AbstractContextManager[object] = threadpool_limits(run.request.encoder.threads)
    return limits


@contextlib.contextmanager
def each_with_one_thread(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in each of which faiss, numpy and the like use no other thread, for as long as it lasts.

    For work that falls into independent parts: threads of one product wait for each other, those of two do not.
    """
    with threadpool_limits(1), ThreadPoolExecutor(workers, "work", lambda: threadpool_limits(1)) as pool:
        yield pool
