"""What a build is cut into is asked of what cuts it; an object store has its own arithmetic."""

import pytest

from transforms.forecast.workload import Machines, Workload
from transforms.index.index_key import IndexKey
from transforms.index.lists.merge import FAN_IN, FILE_BYTES


def load(rows: int, key: str = "IVF1024,PQ64", *, object_store: bool = False, dim: int = 512) -> Workload:
    return Workload(IndexKey.parse(key), "ip", rows, dim, object_store=object_store)


def test_an_object_store_merges_fewer_inputs_at_once() -> None:
    folder, store = (load(10**9, object_store=remote) for remote in (False, True))
    assert folder.blocks == store.blocks > 48
    assert (folder.fan_in, store.fan_in) == (FAN_IN, 48)
    assert (folder.tiers, store.tiers) == (0, 1)
    assert folder.merge_inputs == folder.blocks
    assert store.merge_inputs == -(-store.blocks // 48)
    assert store.storage["lists"] == 2 * folder.storage["lists"]


@pytest.mark.parametrize("rows", [10**6, 10**9, 10**11])
def test_an_index_on_an_object_store_is_segments_that_fit_the_disk_that_is_named(rows: int) -> None:
    stored = load(rows, object_store=True)
    assert stored.files["index"] == stored.pieces == min(1024, -(-stored.listed // FILE_BYTES))
    assert stored.scratch >= min(stored.listed, stored.listed // stored.pieces)
    assert load(rows).scratch == 0


def test_blocks_are_smaller_where_much_of_them_is_sampled() -> None:
    few, many = (load(10**8, f"IVF{lists},PQ64", dim=1024) for lists in (1024, 1 << 20))
    assert many.block_rows * many.shares.sampled * 2 * 1024 <= 512 << 20
    assert few.block_rows > many.block_rows


def test_a_worker_works_on_a_task_for_every_four_cores() -> None:
    assert [Machines(1, cores).at_a_time for cores in (1, 4, 8, 64)] == [1, 1, 2, 16]
    assert Machines(3, 8).slots == 6
