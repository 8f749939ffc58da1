"""Threads that searches share, and that stay: the first product in a thread costs milliseconds."""

import functools
from concurrent.futures import ThreadPoolExecutor

import faiss


@functools.cache
def each_alone(count: int) -> ThreadPoolExecutor:
    """Returns a pool of so many threads, in each of which faiss uses no other, for as long as the process lasts."""
    return ThreadPoolExecutor(count, "search", lambda: faiss.omp_set_num_threads(1))
