"""What a worker must have: sums with their arithmetic, and refusals that can be checked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import UsageError
from transforms.index import sizing
from transforms.index.index_key import IndexKey

GIB = 1 << 30
COMPRESSED = IndexKey.parse("OPQ64_256,IVF4194304,PQ64")


def test_centroids_of_many_lists_are_counted_with_the_reduced_dimension() -> None:
    add = sizing.stage_memory(COMPRESSED, 10**10, 512)["add"]
    assert "centroids 4,194,304 lists x 256 dimensions x 4 bytes = 4.0 GiB" in str(add)


def test_workers_without_the_memory_for_it_are_refused_with_the_arithmetic() -> None:
    with pytest.raises(UsageError) as refused:
        sizing.check_worker_memory(COMPRESSED, "ip", 10**10, 512, 8 * GIB)
    message = str(refused.value)
    assert message.startswith("train with OPQ64_256,IVF4194304,PQ64 (ip) needs 16.4 GiB a worker")
    assert "4 copies of 4,194,304 lists x 256 dimensions x 4 bytes = 16.0 GiB" in message
    assert message.endswith("--worker-memory is 8.0 GiB: fewer lists, fewer dimensions (OPQm_d), or larger workers")
    assert "\n" not in message


def test_workers_that_are_large_enough_are_not_refused() -> None:
    sizing.check_worker_memory(COMPRESSED, "ip", 10**10, 512, 32 * GIB)


def test_without_a_limit_it_is_that_of_this_machine() -> None:
    sizing.check_worker_memory(IndexKey.parse("Flat"), "ip", 10_000, 64, None)
    with pytest.raises(UsageError, match="this machine has"):
        sizing.check_worker_memory(IndexKey.parse("IVF4194304,Flat"), "ip", 10**12, 65_536, None)


def test_one_list_must_fit_a_worker_whole() -> None:
    with pytest.raises(UsageError, match=r"10,000,000 vectors x 2056 bytes = 19\.1 GiB.*--index-key with lists"):
        sizing.check_worker_memory(IndexKey.parse("Flat"), "ip", 10**7, 512, 16 * GIB)


def test_a_graph_over_the_lists_counts_its_links() -> None:
    graph, plain = (
        sizing.stage_memory(IndexKey.parse(f"IVF1048576{coarse},PQ64"), 10**9, 256)["add"].bytes
        for coarse in ("_HNSW32", "")
    )
    assert graph - plain == 1_048_576 * (64 + 4) * 4


@given(rows=st.integers(1, 10**12), lists=st.integers(0, 22), dim=st.integers(2, 64).map(lambda parts: 32 * parts))
def test_more_vectors_never_need_less_memory_to_merge(rows: int, lists: int, dim: int) -> None:
    key = IndexKey.parse(f"IVF{1 << lists},PQ32")
    less, more = (sizing.stage_memory(key, count, dim)["merge"].terms[0].bytes for count in (rows, 2 * rows))
    assert less <= more


@given(rows=st.integers(1, 10**12), dim=st.integers(2, 64).map(lambda parts: 32 * parts))
def test_every_sum_is_the_sum_of_its_terms_and_says_so(rows: int, dim: int) -> None:
    for task in sizing.worker_tasks(IndexKey.parse("IVF65536,PQ32"), rows, dim):
        assert task.bytes == sum(term.bytes for term in task.terms)
        assert all(term.what in str(task) for term in task.terms)


def test_memory_for_adding_does_not_grow_with_the_vectors() -> None:
    key = IndexKey.parse("OPQ64_256,IVF1048576,PQ64")
    billion, hundred = (sizing.stage_memory(key, rows, 512)["add"].bytes for rows in (10**9, 10**11))
    assert hundred <= billion * 1.1
