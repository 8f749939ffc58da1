"""Row groups: rows of a shard in the order asked for, each group read once while there is room for it."""

import gc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import PixdexError
from transforms.search import row_groups
from transforms.search.row_groups import Kept, RowGroups
from transforms.shards import files
from transforms.storage.store import Store

SHARD, ROWS = 12, 30


def groups_of(folder: object, kept: int, *, check: bool = False) -> RowGroups:
    store = Store.at(str(folder))
    columns = {
        name: [f"{name} {row}" for row in range(ROWS)] for name in ("key", "uri", "modality", "caption", "version")
    }
    numbers = {name: pa.array(range(ROWS), pa.int32()) for name in ("part", "width", "height")}
    table = pa.table(columns | numbers).select([*files.CORE_COLUMNS])
    file = files.write_embeddings(store, SHARD, table, np.ones((ROWS, 4), np.float32))
    row = {"path": file.path, "bytes": file.bytes, "checksum": file.checksum}
    return RowGroups(store, {SHARD: row | {"rows": ROWS}}, Kept(kept), check=check)


@given(
    asked=st.lists(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=40), max_size=6),
    kept=st.sampled_from([0, 900, 1 << 20]),
)
def test_rows_come_in_the_order_asked_for_whatever_is_kept(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[int]], kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "ROWS_PER_GROUP", 8)
        patched.setattr(row_groups, "ROWS_PER_GROUP", 8)
        patched.setattr(row_groups, "_TAKEN", 20)
        groups = groups_of(tmp_path_factory.mktemp("root"), kept)
        for rows in asked:
            for columns in (None, ("id", "key", "nothing of this name")):
                found = groups.rows(SHARD, np.array(rows, np.int64), columns)
                assert found["id"].to_pylist() == [(SHARD << 16) + row for row in rows]
                assert found["key"].to_pylist() == [f"key {row}" for row in rows]
                assert ("uri" in found.column_names) == (columns is None)
                assert files.EMBEDDING not in found.column_names
        assert groups._kept._bytes <= kept


def test_a_group_is_read_once_and_a_damaged_shard_is_told_when_it_is_checked(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = groups_of(tmp_path, 1 << 20, check=True)
    reads: list[object] = []
    read = files.read_groups

    def counted(*how: Any) -> Any:
        reads.append(how)
        return read(*how)

    monkeypatch.setattr(files, "read_groups", counted)
    some = np.array([3, 1])
    assert not groups.has(SHARD, some)
    groups.rows(SHARD, some)
    assert groups.has(SHARD, some)
    groups.rows(SHARD, some[::-1])
    assert len(reads) == 1

    other = groups_of(tmp_path, 1 << 20, check=True)
    file = other._store.local_path(str(other._shards[SHARD]["path"]))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.raises(PixdexError, match="checksum"):
        other.rows(SHARD, some)


def test_what_is_kept_holds_its_own_memory_only(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that is let go of is free, whatever else was read with it."""
    monkeypatch.setattr(files, "ROWS_PER_GROUP", 1024)
    monkeypatch.setattr(row_groups, "ROWS_PER_GROUP", 1024)
    rows, kept = 16 * 1024, Kept(300_000)
    names = dict.fromkeys(("key", "uri", "modality", "caption", "version"), ["x" * 40] * rows)
    numbers = dict.fromkeys(("part", "width", "height"), pa.array(range(rows), pa.int32()))
    store = Store.at(str(tmp_path))
    table = pa.table(names | numbers).select([*files.CORE_COLUMNS])
    file = files.write_embeddings(store, SHARD, table, np.ones((rows, 4), np.float32))
    row = {"path": file.path, "bytes": file.bytes, "checksum": file.checksum, "rows": rows}
    groups = RowGroups(store, {SHARD: row}, kept)
    del table, names, numbers
    gc.collect()
    before = pa.total_allocated_bytes()
    groups.rows(SHARD, np.arange(0, rows, 1024))
    gc.collect()
    assert 0 < kept._bytes <= 300_000
    assert pa.total_allocated_bytes() - before < 600_000
