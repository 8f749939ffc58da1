"""How many CPU threads the mathematics of a run uses: another number may change the last bits of what it makes."""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits

from transforms.run import Run


def threads(run: Run) -> AbstractContextManager[object]:
    """Limits faiss, numpy and every other thread pool of this process to the threads of the request, for a while."""
    limits: AbstractContextManager[object] = threadpool_limits(run.request.encoder.threads)
    return limits
