"""Item tables: cut into runs that add up, and read back at any boundary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.records import ItemSlice
from transforms.sources import items
from transforms.storage.store import Store


def table(count: int, first: int = 0) -> pa.Table:
    names = pa.array([f"k{first + number}" for number in range(count)], pa.string())
    return items.table_of(key=names, uri=names, version=names, text=names, columns={"own": names})


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 40))
def test_runs_cover_every_item_and_row_and_keep_to_the_limit(rows: list[int], limit: int) -> None:
    chunks = items.chunks_of(np.array(rows, np.int32), limit)
    stops = np.cumsum([count for count, _ in chunks], dtype=np.int64).tolist()

    assert (stops[-1] if stops else 0) == len(rows)
    for (count, total), stop in zip(chunks, stops, strict=True):
        run = rows[stop - count : stop]
        assert sum(run) == total
        assert 0 < count <= limit
        assert total < limit + run[-1] or total <= limit


def test_items_that_fill_no_row_do_not_make_a_run_without_end() -> None:
    rows = np.concatenate((np.full(100, 4096), np.zeros(100_000))).astype(np.int32)

    assert max(count for count, _ in items.chunks_of(rows)) <= 1024


@given(sizes=st.lists(st.integers(0, 25), min_size=1, max_size=6), data=st.data())
def test_a_slice_reads_back_at_any_boundary(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("items")
    store, file = Store.at(str(folder)), folder / "items.parquet"
    count = sum(sizes)
    starts = np.cumsum([0, *sizes])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(items, "ITEMS_PER_GROUP", 7)
        items.write((table(size, int(start)) for size, start in zip(sizes, starts, strict=False)), file)
        reference = store.upload(file, "plans", "items")
        if count:
            start = data.draw(st.integers(0, count - 1))
            stop = data.draw(st.integers(start + 1, count))
            found = items.read(store, ItemSlice(reference, start, stop))
            assert found["key"].to_pylist() == [f"k{number}" for number in range(start, stop)]
            assert found["own"].to_pylist() == found["key"].to_pylist()
            assert items.key_at(store, reference.path, start) == (f"k{start}", f"k{start}")


def test_nothing_listed_makes_no_file(tmp_path: Path) -> None:
    items.write(iter(()), tmp_path / "items.parquet")

    assert not (tmp_path / "items.parquet").exists()


def test_a_listing_that_fails_is_raised(tmp_path: Path) -> None:
    def broken() -> Any:
        yield table(3)
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"):
        items.write(broken(), tmp_path / "items.parquet")


NAMES = st.sampled_from(["a", "a_2", "", "key", "source_key", "id", "embedding", "column_1", "pixdex.rows", "ID", "한"])


@given(st.lists(NAMES, max_size=12))
def test_stored_names_are_unique_and_none_that_a_shard_keeps(names: Sequence[str]) -> None:
    stored = items.column_names(names)

    assert len(set(stored)) == len(names)
    assert not set(stored) & {*items.SHARD_COLUMNS, *items.CORE_SCHEMA.names, ""}


@given(st.lists(st.sampled_from("abcdef"), unique=True))
def test_names_that_collide_with_nothing_are_kept(names: list[str]) -> None:
    assert items.column_names(names) == names


def test_planned_rows_are_the_picture_the_text_and_every_keyword() -> None:
    text = pa.array(["a", None, None, "d"], pa.string())
    found = items.table_of(
        key=text, uri=text, version=text, image=pa.array([None, "i", None, "i"], pa.string()), text=text,
        keywords=pa.array([["x", "y"], None, None, []], pa.list_(pa.string())), columns={},
    )  # fmt: skip

    assert found[items.ROWS].to_pylist() == [3, 1, 0, 2]
    assert [problem is None for problem in found[items.PROBLEM].to_pylist()] == [True, True, False, True]
    assert found.schema == items.CORE_SCHEMA
