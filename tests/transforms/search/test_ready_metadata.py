"""What stands beside ready embeddings is read row by row, in values that JSON can hold."""

import dataclasses
import datetime
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.ready import random_vectors, range_of, save_npy, save_parquet
from transforms.errors import PixdexError
from transforms.records import VectorRange, row_key
from transforms.search.ready_metadata import keys_of, read_metadata


def beside(folder: Path, columns: dict[str, object], rows: int, group: int | None = None) -> VectorRange:
    """An `.npy` file of `rows` vectors with these columns beside it."""
    pq.write_table(pa.table(columns), folder / "m.parquet", row_group_size=group)
    return range_of(save_npy(folder / "a.npy", random_vectors(rows, 4)), 0, rows, folder / "m.parquet")


def test_keys_of_many_rows_are_those_of_each(tmp_path: Path) -> None:
    ready, rows = beside(tmp_path, {"n": range(140)}, 140), np.array([60, 0, 99, 1, 0])
    ready = dataclasses.replace(ready, start=40)
    assert keys_of(ready, rows).to_pylist() == [row_key(ready, row) for row in rows.tolist()]
    assert keys_of(ready, rows[:0]).to_pylist() == []


def test_rows_come_in_the_order_asked_for_whatever_row_group_holds_them(tmp_path: Path) -> None:
    whole = beside(tmp_path, {"caption": [f"c{row}" for row in range(100)], "n": list(range(100))}, 100, group=7)
    ready = VectorRange(whole.uri, "npy", 20, 100, whole.version, metadata=whole.metadata, modality="text")
    found = read_metadata(5, ready, np.array([60, 0, 79, 1, 0]))
    assert [row["caption"] for row in found] == ["c80", "c20", "c99", "c21", "c20"]
    assert [row["n"] for row in found] == [80, 20, 99, 21, 20]
    assert found[0] == {
        "id": 5 << 16 | 60, "key": f"{whole.uri}#80", "uri": whole.uri, "modality": "text", "part": 0,
        "caption": "c80", "n": 80,
    }  # fmt: skip


def test_vectors_with_nothing_beside_them_have_a_key_and_no_columns(tmp_path: Path) -> None:
    ready = range_of(save_npy(tmp_path / "a.npy", random_vectors(9, 4)), 0, 9)
    (row,) = read_metadata(0, ready, np.array([8]))
    assert set(row) == {"id", "key", "uri", "modality", "part", "caption"}
    assert (row["key"], row["caption"]) == (f"{ready.uri}#8", None)


def test_the_columns_of_a_parquet_file_are_those_beside_its_vectors(tmp_path: Path) -> None:
    columns = {"id": [7, 8], "other": [[0.5], [1.5]]}
    ready = range_of(save_parquet(tmp_path / "a.parquet", random_vectors(2, 4), columns=columns), 0, 2)
    (row,) = read_metadata(0, ready, np.array([1]))
    assert (row["id"], row["source_id"]) == (1, 8)
    assert "embedding" not in row and "other" not in row


def test_values_are_such_as_json_can_hold(tmp_path: Path) -> None:
    columns = {
        "f": pa.array([float("nan"), 1.5], pa.float32()),
        "inf": [float("inf"), None],
        "flag": [True, None],
        "day": [datetime.date(2026, 1, 2), None],
        "bytes": [b"x", b"y"],
        "words": [["a"], []],
        "kind": pa.array(["x", "y"]).dictionary_encode(),
    }
    rows = read_metadata(0, beside(tmp_path, columns, 2), np.array([0, 1]))
    names = ("f", "inf", "flag", "day", "words", "kind")
    assert [rows[0][name] for name in names] == [None, None, True, "2026-01-02", ["a"], "x"]
    assert [rows[1][name] for name in names] == [1.5, None, None, None, [], "y"]
    assert "bytes" not in rows[0]


@pytest.mark.parametrize(
    ("column", "captions"),
    [
        ([7, None], ["7", None]),
        ([1.5, float("nan")], ["1.5", None]),
        ([["a", None, "b"], []], ["a, b", None]),
        ([[1, 2], None], ["1, 2", None]),
        (pa.array([["x"], ["y", "z"]], pa.large_list(pa.large_string())), ["x", "y, z"]),
        ([datetime.date(2026, 1, 2), None], ["2026-01-02", None]),
        ([{"ko": "원"}, None], ["{'ko': '원'}", None]),
        ([True, False], ["True", "False"]),
    ],
    ids=str,
)
def test_a_caption_is_a_string_whatever_its_column_holds(
    tmp_path: Path, column: object, captions: list[str | None]
) -> None:
    found = read_metadata(0, beside(tmp_path, {"caption": column}, 2), np.array([0, 1]))
    assert [row["caption"] for row in found] == captions


def test_a_file_that_has_changed_or_is_gone_is_named(tmp_path: Path) -> None:
    ready = beside(tmp_path, {"n": list(range(9))}, 9)
    pq.write_table(pa.table({"n": list(range(1000, 1009)), "more": ["x"] * 9}), tmp_path / "m.parquet")
    with pytest.raises(PixdexError, match=r"m\.parquet has changed .*, planned with .*not copied, put it back"):
        read_metadata(0, ready, np.array([8]))
    (tmp_path / "m.parquet").unlink()
    with pytest.raises(PixdexError, match=r"m\.parquet cannot be read \(No such file"):
        read_metadata(0, ready, np.array([8]))


def test_columns_of_vectors_that_have_changed_are_not_shown(tmp_path: Path) -> None:
    ready = range_of(save_parquet(tmp_path / "a.parquet", random_vectors(2, 4), columns={"n": [1, 2]}), 0, 2)
    save_parquet(tmp_path / "a.parquet", random_vectors(3, 4), columns={"n": [1, 2, 3]})
    with pytest.raises(PixdexError, match=r"a\.parquet has changed"):
        read_metadata(0, ready, np.array([0]))


def test_a_file_of_fewer_rows_is_named_also_where_no_version_was_kept(tmp_path: Path) -> None:
    ready = dataclasses.replace(beside(tmp_path, {"n": [1]}, 9), metadata_version=None)
    with pytest.raises(PixdexError, match=r"m\.parquet has 1 rows and should have row 8: it belongs to .*a\.npy"):
        read_metadata(0, ready, np.array([8]))


NESTED = {
    "struct": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    "list of structs": pa.list_(pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])),
    "list": pa.list_(pa.binary()),
    "dictionary": pa.dictionary(pa.int32(), pa.binary()),
    "fixed": pa.binary(4),
    "map": pa.map_(pa.string(), pa.binary()),
}


@pytest.mark.parametrize("kind", NESTED)
def test_bytes_are_left_out_wherever_they_are_nested(tmp_path: Path, kind: str) -> None:
    large = b"\xff" * (4 if kind == "fixed" else 1 << 20)
    value = {"bytes": large, "path": "a.jpg"}
    values = {"struct": value, "list of structs": [value], "list": [large], "map": [("k", large)]}
    column = pa.array([values.get(kind, large)] * 2, NESTED[kind] if kind != "dictionary" else pa.binary())
    column = column.dictionary_encode() if kind == "dictionary" else column
    pq.write_table(pa.table({"name": ["x", "y"], "image": column}), tmp_path / "m.parquet")
    save_npy(tmp_path / "v.npy", random_vectors(2, 4))
    (row,) = read_metadata(0, range_of(tmp_path / "v.npy", 0, 2, tmp_path / "m.parquet"), np.array([1]))
    assert row["name"] == "y"
    assert len(json.dumps(row)) < 1000
    assert ("a.jpg" in json.dumps(row)) == ("struct" in kind)


def test_folders_named_as_pairs_are_columns_where_the_file_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "lang=ko" / "kind=a%2Fb" / "note=__HIVE_DEFAULT_PARTITION__" / "name=of the folder"
    save_npy(folder / "v.npy", random_vectors(2, 4))
    pq.write_table(pa.table({"name": ["x", "y"]}), tmp_path / "m.parquet")
    (row,) = read_metadata(0, range_of(folder / "v.npy", 0, 2, tmp_path / "m.parquet"), np.array([0]))
    assert (row["lang"], row["kind"], row["note"], row["name"]) == ("ko", "a/b", None, "x")
    (alone,) = read_metadata(0, range_of(folder / "v.npy", 0, 2), np.array([0]))
    assert (alone["lang"], alone["name"]) == ("ko", "of the folder")
