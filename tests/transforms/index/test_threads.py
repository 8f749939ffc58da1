"""Threads of their own for independent work, and nothing changed once it is done, whoever else is at work."""

import contextlib
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import faiss
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tests.conftest import REPOSITORY
from transforms.index.threads import each_limited, each_with_one_thread, limited


def limits() -> tuple[int, ...]:
    """The threads that faiss's OpenMP and every BLAS would use here."""
    return (faiss.omp_get_max_threads(), *(library["num_threads"] for library in threadpool_info()))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_each_thread_of_the_pool_uses_no_other_and_the_limits_come_back(*, threads: int, fails: bool) -> None:
    with threadpool_limits(2):
        before = limits()
        assert set(before) == {2}
        try:
            with each_limited(3, threads) as pool:
                for found in [pool.submit(limits) for _ in range(6)]:
                    assert set(found.result()) == {threads}
                if fails:
                    raise ValueError("the work fails")
        except ValueError:
            pass
        assert limits() == before


def test_whoever_leaves_first_takes_no_limit_from_those_that_stay_and_the_last_brings_it_back() -> None:
    with threadpool_limits(2), contextlib.ExitStack() as first, ThreadPoolExecutor(1) as other:
        second = contextlib.ExitStack()
        first.enter_context(each_with_one_thread(1))
        other.submit(second.enter_context, each_with_one_thread(1)).result()
        first.close()
        assert set(other.submit(blas).result()) == {1}
        other.submit(second.close).result()
        assert set(blas()) == {2}


def blas() -> list[int]:
    """Those of every BLAS that has one number for the process: one that is built with OpenMP asks for its caller's."""
    shared = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return [library["num_threads"] for library in shared if library["threading_layer"] != "openmp"]


def test_any_thread_can_limit_though_another_asked_before() -> None:
    def inside() -> set[int]:
        with limited(3):
            return set(blas())

    with threadpool_limits(2), ThreadPoolExecutor(1) as other:
        assert other.submit(inside).result() == {3}
        assert set(blas()) == {2}


LATE = """
from transforms.index.threads import limited
with limited(1):
    pass
import faiss
import torch
with limited(1):
    print(faiss.omp_get_max_threads(), torch.get_num_threads())
"""


def test_a_library_that_is_loaded_after_a_limit_is_limited_by_the_next() -> None:
    many = os.environ | {"OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", LATE], env=many, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_another_number_waits_until_all_have_left() -> None:
    found: Future[list[int]] = Future()

    def with_three() -> None:
        with limited(3):
            found.set_result(blas())

    other = threading.Thread(target=with_three)
    with limited(1):
        other.start()
        with limited(1):  # the same number once more
            other.join(0.1)
        assert not found.done()
        assert set(blas()) == {1}
    assert set(found.result(10)) == {3}
    other.join()


def test_another_number_within_is_refused_instead_of_waiting_for_ever() -> None:
    with limited(1), pytest.raises(RuntimeError, match="3 threads are asked for within 1"), limited(3):
        pass
    with limited(3):  # nothing of it is left
        assert set(blas()) == {3}
