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
from transforms.ready_range import VectorRange, row_key
from transforms.search.ready_metadata import keys_of, read_metadata, reads_a_file, types_of
from transforms.search.row_groups import Kept


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


def test_types_are_those_of_the_values_that_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "lang=ko"
    folder.mkdir()
    columns: dict[str, object] = {
        "caption": ["a", None],
        "key": pa.array([1, 2], pa.uint8()),
        "half": pa.array(np.array([1, np.nan], np.float16)),
        "day": pa.array([datetime.date(2024, 5, 1), None]),
        "days": pa.array([[datetime.date(2024, 5, 1)], None]),
        "tags": pa.array([["a"], None], pa.list_(pa.large_string())),
        "numbers": pa.array([[1, 2], []], pa.list_(pa.int16())),
        "flag": [True, None],
        "nested": [{"a": 1, "b": b"x"}, None],
        "kind": pa.array(["x", None]).dictionary_encode(),
        "bytes": [b"x", b"y"],
        "vector": [[0.5], [1.5]],
        "nothing": pa.nulls(2),
    }
    ready = beside(folder, columns, 2)
    types = types_of(ready)
    rows = read_metadata(0, ready, np.array([0, 1]))
    own = {"id", "key", "uri", "modality", "part", "caption"}
    assert list(types) == [name for name in rows[0] if name not in own]
    for name, kind in types.items():
        values = [row[name] for row in rows]
        assert pa.array(values, kind).to_pylist() == values, name
    assert (types["lang"], types["source_key"], types["half"]) == (pa.string(), pa.uint8(), pa.float64())


def test_folders_named_as_pairs_are_columns_where_the_file_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "lang=ko" / "kind=a%2Fb" / "note=__HIVE_DEFAULT_PARTITION__" / "name=of the folder"
    save_npy(folder / "v.npy", random_vectors(2, 4))
    pq.write_table(pa.table({"name": ["x", "y"]}), tmp_path / "m.parquet")
    (row,) = read_metadata(0, range_of(folder / "v.npy", 0, 2, tmp_path / "m.parquet"), np.array([0]))
    assert (row["lang"], row["kind"], row["note"], row["name"]) == ("ko", "a/b", None, "x")
    (alone,) = read_metadata(0, range_of(folder / "v.npy", 0, 2), np.array([0]))
    assert (alone["lang"], alone["name"]) == ("ko", "of the folder")


def pairs(folder: Path, columns: dict[str, object], rows: int) -> VectorRange:
    """As `beside`, with vectors of texts, too."""
    ready = beside(folder, columns, rows)
    return dataclasses.replace(ready, text_uri=f"file://{folder}/t.npy", text_version="stat:1")


def test_both_rows_of_a_pair_are_what_stands_in_its_row(tmp_path: Path) -> None:
    whole = pairs(tmp_path, {"caption": [f"c{row}" for row in range(9)], "n": list(range(9))}, 9)
    ready = dataclasses.replace(whole, start=2)
    found = read_metadata(1, ready, np.array([13, 0, 6, 7]))
    assert [(row["key"], row["modality"], row["caption"], row["n"]) for row in found] == [
        (f"{ready.uri}#8", "text", "c8", 8), (f"{ready.uri}#2", "image", "c2", 2),
        (f"{ready.uri}#8", "image", "c8", 8), (f"{ready.uri}#2", "text", "c2", 2),
    ]  # fmt: skip
    assert {row["uri"] for row in found} == {ready.uri}
    assert keys_of(ready, np.array([13, 0, 6, 7])).to_pylist() == [row["key"] for row in found]


PICTURES = {
    "relative": (None, None, "b/1.png", "file://{folder}/b/1.png"),
    "absolute": (None, None, "/d/1.png", "file:///d/1.png"),
    "on the web": ("file:///p", None, "https://h/1.png?x=1", "https://h/1.png?x=1"),
    "below a base": ("s3://b/p", None, "c/1.png", "s3://b/p/c/1.png"),
    "absolute beside a base": ("file:///p", None, "/d/1.png", "file:///d/1.png"),
    "moved": ("file:///p", "/content", "/content/c/1.png", "file:///p/c/1.png"),
    "moved to a bucket": ("s3://b", "s3://old/x", "s3://old/x/1.png", "s3://b/1.png"),
    "of a folder that only begins so": ("file:///p", "/content", "/contents/1.png", "file:///contents/1.png"),
    "leading up": ("file:///p", None, "../q/1.png", "file:///q/1.png"),
    "nothing": ("file:///p", None, "", "{uri}"),
    "null": ("file:///p", None, None, "{uri}"),
}


@pytest.mark.parametrize("case", PICTURES)
def test_a_column_names_the_picture_of_a_row(tmp_path: Path, case: str) -> None:
    base, was, name, wanted = PICTURES[case]
    ready = beside(tmp_path, {"where": pa.array(["other.png", name], pa.string())}, 2)
    ready = dataclasses.replace(ready, uri_column="where", image_base=base, image_was=was)
    (row,) = read_metadata(0, ready, np.array([1]))
    assert row["uri"] == wanted.format(folder=tmp_path, uri=ready.uri)
    assert (row["where"], row["key"]) == (name, f"{ready.uri}#1")


def test_a_column_of_the_parquet_file_itself_names_pictures_relative_to_it(tmp_path: Path) -> None:
    file = save_parquet(tmp_path / "v/a.parquet", random_vectors(2, 4), columns={"uri": ["a.png", "../b.png"]})
    ready = dataclasses.replace(range_of(file, 0, 2), uri_column="uri")
    found = read_metadata(0, ready, np.array([0, 1]))
    assert [row["uri"] for row in found] == [f"file://{tmp_path}/v/a.png", f"file://{tmp_path}/b.png"]
    assert [row["source_uri"] for row in found] == ["a.png", "../b.png"]


def test_rows_of_a_csv_are_read_as_those_of_parquet(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    rows = "".join(f'"c\n{row}",{row:03}\n' for row in range(10_000))
    (tmp_path / "m.csv").write_text(f"caption,n\n{rows}")
    ready = range_of(save_npy(tmp_path / "a.npy", random_vectors(10_000, 4)), 1000, 10_000, tmp_path / "m.csv")
    kept = Kept(1 << 20)
    assert reads_a_file(ready, kept)
    found = read_metadata(0, ready, np.array([8999, 0, 4000]), kept)
    assert [(row["caption"], row["n"]) for row in found] == [
        ("c\n9999", "9999"),
        ("c\n1000", "1000"),
        ("c\n5000", "5000"),
    ]
    (tmp_path / "m.csv").write_text("caption,n\nx,1\n")
    with pytest.raises(PixdexError, match=r"m\.csv has changed"):
        read_metadata(0, ready, np.array([0]), kept)
