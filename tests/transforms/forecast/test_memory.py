"""What a worker must have: sums with their arithmetic, and refusals that can be checked by hand."""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import UsageError
from transforms.forecast import memory
from transforms.forecast.memory import TaskMemory
from transforms.forecast.workload import THREADS_A_TASK, Workload
from transforms.index.index_key import IndexKey
from transforms.records import Refine
from transforms.shards.byte_vectors import as_bytes

GIB = 1 << 30
LARGE = Workload(IndexKey.parse("OPQ64_256,IVF4194304,PQ64"), "ip", 10**10, 512)


def load(
    key: str, rows: int, dim: int, *, normalized: bool = True, object_store: bool = False, refine: Refine = "none"
) -> Workload:
    return Workload(
        IndexKey.parse(key), "ip", rows, dim, normalized=normalized, object_store=object_store, refine=refine
    )


def task(load: Workload, name: str, at_a_time: int = 1) -> TaskMemory:
    return next(task for task in memory.worker_tasks(load, at_a_time) if task.task == name)


def test_centroids_of_many_lists_are_counted_with_the_reduced_dimension() -> None:
    add = memory.stage_memory(LARGE)["add"]
    assert "centroids 4,194,304 lists x 256 dimensions x 4 bytes = 4.0 GiB" in str(add)


def test_workers_without_the_memory_for_it_are_refused_with_the_arithmetic() -> None:
    with pytest.raises(UsageError) as refused:
        memory.check_worker_memory(LARGE, 8 * GIB)
    message = str(refused.value)
    assert message.startswith("train with OPQ64_256,IVF4194304,PQ64 (ip) needs 21.6 GiB a worker (writing the index)")
    assert "5 copies of 4,194,304 lists x 256 dimensions x 4 bytes = 20.0 GiB" in message
    assert message.endswith("--worker-memory is 8.0 GiB: fewer lists, fewer dimensions (OPQm_d), or larger workers")
    assert "\n" not in message


def test_workers_that_are_large_enough_are_not_refused() -> None:
    memory.check_worker_memory(LARGE, 32 * GIB)


@pytest.mark.parametrize("dim", [384, 512, 768, 1024])
@pytest.mark.parametrize(
    ("key", "rows"),
    [("Flat", 20_000), ("IVF512,Flat", 20_000), ("IVF4096,Flat", 10**6), ("OPQ64_256,IVF4096,PQ64", 10**6)],
)
@pytest.mark.parametrize("normalized", [True, False])
def test_a_small_build_fits_a_laptop_of_4_gib(key: str, rows: int, dim: int, normalized: bool) -> None:
    memory.check_worker_memory(load(key, rows, dim, normalized=normalized), 4 * GIB)


def test_without_a_limit_it_is_that_of_this_machine() -> None:
    memory.check_worker_memory(load("Flat", 10_000, 64), None)
    with pytest.raises(UsageError, match="this machine has"):
        memory.check_worker_memory(load("IVF4194304,Flat", 10**12, 65_536), None)


def test_one_list_must_fit_a_worker_whole() -> None:
    with pytest.raises(UsageError, match=r"10,000,000 vectors x 2056 bytes = 19\.1 GiB.*--index-key with lists"):
        memory.check_worker_memory(load("Flat", 10**7, 512), 16 * GIB)


def test_a_graph_over_the_lists_counts_its_links() -> None:
    graph, plain = (
        memory.stage_memory(load(f"IVF1048576{coarse},PQ64", 10**9, 256))["add"].bytes for coarse in ("_HNSW32", "")
    )
    assert graph - plain == 1_048_576 * (64 + 4) * 4


def test_an_index_on_an_object_store_is_read_before_it_is_opened() -> None:
    here, there = (load("IVF1048576,PQ64", 10**9, 256, object_store=remote) for remote in (False, True))
    assert task(there, "adding a block").bytes - task(here, "adding a block").bytes == here.centroids


def test_the_sample_of_a_block_is_counted_and_bounded() -> None:
    """Two fifths of the rows are trained on: blocks of 4 Mi rows would make a worker hold 4 GiB of them."""
    sampled = load("IVF1048576,PQ64", 10**8, 1024)
    assert sampled.shares.sampled > 0.4
    held = sampled.block_rows * sampled.shares.sampled * 2 * 1024
    assert 0.9 * (512 << 20) < held < 1.01 * (512 << 20)
    assert task(sampled, "sampling a block").terms[0].bytes >= 0.9 * held
    assert {one.stage for one in memory.worker_tasks(sampled)} == {"sample", "train", "add", "merge"}
    assert "routing the sample of a block" in {one.task for one in memory.worker_tasks(sampled)}


def test_vectors_of_any_length_are_sampled_in_twice_the_bytes() -> None:
    half, full = (load("IVF65536,PQ64", 10**8, 512, normalized=normalized) for normalized in (True, False))
    assert full.block_rows <= half.block_rows
    assert task(full, "finding the parents").bytes > 1.2 * task(half, "finding the parents").bytes


def test_tasks_side_by_side_share_the_process_and_the_trained_index() -> None:
    for name in ("adding a block", "looking for the nearest lists"):
        alone, two = (task(LARGE, name, at_a_time) for at_a_time in (1, 2))
        shared = sum(term.bytes for term in alone.terms if term.shared)
        assert shared > LARGE.centroids
        assert two.bytes == 2 * alone.bytes - shared


def test_a_stage_of_one_task_holds_it_once_however_many_cores_there_are() -> None:
    assert task(LARGE, "moving the centroids", 8) == task(LARGE, "moving the centroids", 1)


@given(rows=st.integers(1, 10**12), lists=st.integers(0, 22), dim=st.integers(2, 64).map(lambda parts: 32 * parts))
def test_more_vectors_never_need_less_memory_to_merge(rows: int, lists: int, dim: int) -> None:
    key = f"IVF{1 << lists},PQ32"
    less, more = (memory.stage_memory(load(key, count, dim))["merge"].terms[0].bytes for count in (rows, 2 * rows))
    assert less <= more


@given(
    rows=st.integers(1, 10**12),
    dim=st.integers(2, 64).map(lambda parts: 32 * parts),
    at_a_time=st.integers(1, 16),
    normalized=st.booleans(),
    object_store=st.booleans(),
    refine=st.sampled_from(get_args(Refine)),
)
def test_every_sum_is_the_sum_of_its_terms_and_says_so(
    rows: int, dim: int, at_a_time: int, normalized: bool, object_store: bool, refine: Refine
) -> None:
    wanted = load("IVF65536,PQ32", rows, dim, normalized=normalized, object_store=object_store, refine=refine)
    for one in memory.worker_tasks(wanted, at_a_time):
        assert one.bytes == sum(term.bytes for term in one.terms)
        assert all(term.what in str(one) for term in one.terms)
        assert one.bytes >= task(wanted, one.task).bytes


def test_memory_for_adding_does_not_grow_with_the_vectors() -> None:
    billion, hundred = (
        memory.stage_memory(load("OPQ64_256,IVF1048576,PQ64", rows, 512))["add"].bytes for rows in (10**9, 10**11)
    )
    assert hundred <= billion * 1.1


@pytest.mark.parametrize("dim", [512, 2048, 4096])
def test_rounding_vectors_to_bytes_holds_what_its_sum_says(dim: int) -> None:
    whole = task(load("IVF64,PQ32", 10**6, dim, refine="sq8"), "adding a block")
    (term,) = [term for term in whole.terms if term.what == "rounding to bytes"]
    vectors = np.random.default_rng(0).standard_normal((4096, dim), np.float32)
    tracemalloc.start()
    as_bytes(vectors)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.5 < peak / (term.bytes / THREADS_A_TASK) < 1


_WATCH = """
import os, sys, threading
from pathlib import Path
import numpy as np
from tests.benchmarks.instruments.measuring import anonymous_bytes
from transforms.index.index_key import IndexKey
from transforms.index.training.vector_codes import to_codes
from transforms.index.lists.writer import write_lists
from transforms.index.training import assemble, passes, sampling
from transforms.index.training.passes import ListSums
from transforms.records import FileReference
from transforms.storage.store import Store

def watched(work):
    before, peak, ended = anonymous_bytes(os.getpid()), [0], threading.Event()

    def look():
        while not ended.wait(0.002):
            peak[0] = max(peak[0], anonymous_bytes(os.getpid()))

    thread = threading.Thread(target=look)
    thread.start()
    work()
    ended.set()
    thread.join()
    print(before, peak[0] - before)
"""

_PARENTS = """
folder, key, rows, dim = Path(sys.argv[1]), IndexKey.parse(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
vectors = np.random.default_rng(0).standard_normal((1024, dim), dtype=np.float32)
with (folder / "sample.ivf").open("wb") as out:
    codes = np.tile(to_codes(vectors, half=True), (rows // 1024, 1))
    pilot = np.zeros(rows, np.int64)
    seal = write_lists(out, list_nos=pilot, codes=codes, ids=np.arange(rows), nlist=3, fingerprint="")
del codes, vectors
files = [FileReference("sample.ivf", seal.bytes, f"xxh3:{seal.checksum}")]

def work():
    _, pilot = sampling.read_parts(Store.at(str(folder)), files, range(1), dim)
    assemble.train_parents(key, "ip", pilot, 0)

watched(work)
"""

_MOVE = """
lists, dim = int(sys.argv[1]), int(sys.argv[2])
part = ListSums(np.arange(100), np.full(100, 2), np.ones((100, dim), np.float32), np.ones(1), np.full(100, 2))
watched(lambda: passes.move([part], np.ones((lists, dim), np.float32), spherical=True))
"""


def measured(script: str, *argv: object) -> tuple[int, int]:
    """Runs a script in a process of its own; returns the anonymous bytes before what it watches, and how many more."""
    words = [sys.executable, "-c", _WATCH + script, *map(str, argv)]
    before, more = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return int(before), int(more)


def test_finding_the_parents_holds_what_its_sum_says(tmp_path: Path) -> None:
    rows, dim, key = 65_536, 256, "OPQ32_128,IVF256,PQ32"
    before, held = measured(_PARENTS, tmp_path, key, rows, dim)
    counted = sum(term.bytes for term in task(load(key, 10**6, dim), "finding the parents").terms if not term.shared)
    assert counted > 100 << 20
    assert before < memory.PROCESS_BYTES
    assert 0.5 * counted < held <= counted


def test_moving_the_centroids_holds_what_its_sum_says() -> None:
    lists, dim = 100_000, 128
    _, held = measured(_MOVE, lists, dim)
    counted = task(load(f"IVF{lists},Flat", 10**8, dim), "moving the centroids").terms[0].bytes
    assert counted > 100 << 20
    assert 0.5 * counted < held <= counted
