"""Tombstones are sets of rows, a bitmap a shard."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms import tombstones
from transforms.store import Store
from transforms.tombstones import Tombstones

IDS = st.sets(st.integers(0, (5 << 16) - 1) | st.sampled_from([0, 7, 65535, 65536, 1 << 40]))


def of(ids: set[int]) -> Tombstones:
    return Tombstones.of(np.array(sorted(ids), np.int64))


@given(dead=IDS, asked=IDS)
def test_a_row_is_dead_that_was_buried(dead: set[int], asked: set[int]) -> None:
    found, ids = of(dead), np.array(sorted(asked), np.int64)
    assert found.are_dead(ids).tolist() == [row in dead for row in sorted(asked)]
    assert found.are_alive(ids).tolist() == [row not in dead for row in sorted(asked)]
    assert found.rows == len(dead)
    assert sum(found.count_by_shard.values()) == len(dead)


@given(parts=st.lists(IDS, max_size=4))
def test_joined_tombstones_are_the_union(parts: list[set[int]]) -> None:
    joined, union = Tombstones.joined(map(of, parts)), of(set().union(*parts))
    assert joined.shards.tolist() == union.shards.tolist()
    np.testing.assert_array_equal(joined.bits, union.bits)


def test_ids_may_come_in_any_shape_and_twice() -> None:
    found = Tombstones.of(np.array([3, 3, 70000]))
    assert found.are_dead(np.array([[3, 4], [70000, -1]])).tolist() == [[True, False], [True, False]]


def test_they_are_stored_as_they_are(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    for dead in (of(set()), of({5}), of({0, 65535, 1 << 30, *range(65536, 131072)})):
        file = tombstones.write(store, dead)
        again = tombstones.read(store, file)
        assert again.shards.tolist() == dead.shards.tolist()
        np.testing.assert_array_equal(again.bits, dead.bits)
        assert tombstones.write(store, again) == file
    assert tombstones.read_all(store, None).rows == 0
