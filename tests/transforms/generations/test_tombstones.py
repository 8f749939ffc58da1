"""Tombstones are sets of rows, a bitmap a shard."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import PixdexError
from transforms.generations import tombstones
from transforms.generations.tombstones import Tombstones
from transforms.storage import parquet_files
from transforms.storage.store import Store

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


@given(IDS)
def test_dead_rows_are_counted_by_their_shard(dead: set[int]) -> None:
    found = of(dead)
    assert found.count_by_shard == dict(Counter(row >> 16 for row in sorted(dead)))
    assert found.counts.tolist() == list(found.count_by_shard.values())
    assert found.shards.tolist() == sorted({row >> 16 for row in dead})


def test_rows_of_other_shards_are_alive_whether_below_between_or_above() -> None:
    found = of({(3 << 16) + 5, (7 << 16) + 5})
    ids = np.array([(shard << 16) + 5 for shard in range(10)])
    assert np.flatnonzero(found.are_dead(ids)).tolist() == [3, 7]


def test_without_tombstones_all_rows_are_alive() -> None:
    for nothing in (Tombstones(), of(set()), Tombstones.joined([]), Tombstones.joined([Tombstones(), of(set())])):
        assert nothing.rows == 0 and nothing.count_by_shard == {}
        assert nothing.are_alive(np.array([[0, 65536, 1 << 40]])).tolist() == [[True, True, True]]
        assert nothing.are_dead(np.empty((0, 3), np.int64)).shape == (0, 3)


def test_joining_leaves_its_parts_as_they_were() -> None:
    one, other = of({1}), of({2, 1 << 16})
    joined = Tombstones.joined([one, other])
    assert (one.rows, other.rows, joined.rows) == (1, 2, 3)
    assert Tombstones.joined([one]).bits is not one.bits


def test_all_rows_of_a_shard_may_be_dead() -> None:
    whole = of(set(range(65536, 131072)))
    assert whole.count_by_shard == {1: 65536}
    assert whole.are_dead(np.array([65535, 65536, 131071, 131072])).tolist() == [False, True, True, False]


def test_a_file_has_no_more_bytes_of_a_shard_than_up_to_its_last_dead_row(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    rows = parquet_files.read(store, tombstones.write(store, of({0, 9, (5 << 16) + 23}))).to_pylist()
    assert rows == [{"shard": 0, "rows": 2, "bits": b"\1\2"}, {"shard": 5, "rows": 1, "bits": b"\0\0\x80"}]


def test_those_of_a_generation_are_read_from_the_files_of_its_folders(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    parts = [{3, 70000}, {(5000 << 16) + 1}, set()]
    files = [tombstones.write(store, of(part)) for part in parts]
    listing = pa.Table.from_pylist([{"folder": n, "rows": 1} | asdict(file) for n, file in enumerate(files)])
    found = tombstones.read_all(store, parquet_files.write_table(store, listing))
    assert found.count_by_shard == {0: 1, 1: 1, 5000: 1}
    assert found.are_dead(np.array([3, 70000, (5000 << 16) + 1, 4])).tolist() == [True, True, True, False]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    file = tombstones.write(store, of({5}))
    path = store.local_path(file.path)
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    with pytest.raises(PixdexError, match=f"{file.path} is damaged"):
        tombstones.read(store, file)
    path.unlink()
    with pytest.raises(PixdexError, match=file.path):
        tombstones.read(store, file)
