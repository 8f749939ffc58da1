"""Threads of their own for independent work, and nothing changed once it is done."""

import faiss
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from transforms.index.worker_threads import each_with_one_thread


def limits() -> tuple[int, ...]:
    """The threads that faiss's OpenMP and every BLAS would use here."""
    return (faiss.omp_get_max_threads(), *(library["num_threads"] for library in threadpool_info()))


@pytest.mark.parametrize("fails", [False, True])
def test_each_thread_of_the_pool_uses_no_other_and_the_limits_come_back(*, fails: bool) -> None:
    with threadpool_limits(2):
        before = limits()
        assert set(before) == {2}
        try:
            with each_with_one_thread(3) as pool:
                for found in [pool.submit(limits) for _ in range(6)]:
                    assert set(found.result()) == {1}
                if fails:
                    raise ValueError("the work fails")
        except ValueError:
            pass
        assert limits() == before
