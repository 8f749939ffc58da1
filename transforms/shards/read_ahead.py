"""Reads one element ahead in a thread, so that reading overlaps what the caller computes."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")


class _End:
    """What stands for the end of the elements."""


_END: Final = _End()


def read_ahead(elements: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yields the elements of a generator, which runs in a thread of its own and is at most one element ahead.

    What it raises is raised here, in its place. When this one is closed, or its caller fails, the thread ends after the
    element it is at, and the generator is closed.

    Cost: one element more in memory. It helps where both sides spend their time outside of the interpreter's lock.
    """
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
            waiting = pool.submit(next, elements, _END)
            while not isinstance(element := waiting.result(), _End):
                waiting = pool.submit(next, elements, _END)
                yield element
    finally:
        elements.close()
