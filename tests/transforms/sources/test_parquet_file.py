"""Columns of parquet become strings, pictures are hashed with their rows, and other types are refused by name."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.sources.row_sources import items_of, source_of
from transforms.errors import UsageError
from transforms.sources import items, table_rows

DAY = datetime.date(2024, 5, 1)


def read(file: Path, table: dict[str, Any], **columns: Any) -> list[dict[str, Any]]:
    pq.write_table(pa.table(table), file, row_group_size=2)
    source = table_rows.of_what_is_there(source_of("parquet", file, **columns))
    table_rows.check(source)
    return items_of(source)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        (pa.array(["a"]).dictionary_encode(), "a"), (pa.array(["a"], pa.large_string()), "a"),
        (pa.array(["a"], pa.string_view()), "a"), (pa.array([7], pa.int8()), "7"),
        (pa.array([2**64 - 1], pa.uint64()), f"{2**64 - 1}"),
        (pa.array([1.5]), "1.5"), (pa.array([1.5], pa.float16()), "1.5"), (pa.array([float("nan")]), None),
        (pa.array([True]), "true"), (pa.array([Decimal("1.50")]), "1.50"), (pa.array([DAY]), "2024-05-01"),
        (pa.array([1], pa.timestamp("ns", "UTC")), "1970-01-01 00:00:00.000000001Z"),
        (pa.array([2**62], pa.timestamp("us")), f"<value out of range: {2**62}>"),
        (pa.array([1], pa.timestamp("s", "Nowhere/X")), "1970-01-01 00:00:01.000Z"),
        (pa.array([5], pa.duration("s")), "5"), (pa.nulls(1), None),
        (pa.array([["a", None]]), '["a", null]'), (pa.array([{"d": DAY, "한": [1]}]), '{"d": "2024-05-01", "한": [1]}'),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), '[["a", 1]]'),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)  # fmt: skip
def test_a_value_is_spelled_as_arrow_or_json_spells_it(tmp_path: Path, column: pa.Array, cell: str | None) -> None:
    (row,) = read(tmp_path / "x.parquet", {"text": ["red"], "other": column}, text_column="text")
    assert row["other"] == cell
    assert row["other"] is None or isinstance(row["other"], str)


def test_bytes_and_vectors_are_no_columns(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 2.0]], pa.list_(pa.float32()))
    table = {"text": ["red"], "raw": [b"x"], "deep": [{"a": 1, "raw": b"x"}], "vector": vectors}
    (row,) = read(tmp_path / "x.parquet", table, text_column="text")
    assert [name for name in row if not name.startswith("pixdex.")] == ["key", "uri", "version", "text", "deep"]
    assert row["deep"] == '{"a": 1}'


def test_keywords_are_lists_or_are_split(tmp_path: Path) -> None:
    lists = pa.array([["red", " ", None, "a,b "], None, []])
    found = read(tmp_path / "x.parquet", {"w": lists}, keyword_column="w")
    assert [row[items.KEYWORDS] for row in found] == [["red", "a,b"], None, None]
    (row,) = read(tmp_path / "x.parquet", {"w": ["red, blue"]}, keyword_column="w")
    assert row[items.KEYWORDS] == ["red", "blue"]


def test_strings_are_uris_of_pictures_relative_to_the_file(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "x.parquet", {"image": ["p/a.png"]}, image_column="image")
    assert (row["uri"], row[items.INSIDE]) == (f"file://{tmp_path}/p/a.png", None)


def test_another_picture_is_another_version_and_a_row_keeps_its_name_where_it_moves(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    first = read(file, {"image": [b"a", b"b"], "n": ["1", "2"]}, image_column="image", key_column="n")
    other = read(file, {"image": [b"b", b"c"], "n": ["2", "1"]}, image_column="image", key_column="n")
    before, after = ({row["key"]: row["version"] for row in some} for some in (first, other))
    assert before.keys() == after.keys()
    assert [before[key] == after[key] for key in sorted(before)] == [False, True]
    assert other[0][items.IMAGE] == f"file://{file}#0"


@pytest.mark.parametrize(
    ("column", "flag", "words"),
    [
        (pa.array([1]), "image_column", "column x is int64, and must hold strings or bytes"),
        (pa.array([b"x"]), "text_column", "column x is binary, and must hold strings, or numbers"),
        (pa.array([["x"]]), "text_column", "must hold strings, or numbers"),
        (pa.array([[1]]), "keyword_column", "must hold strings, or lists of them"),
        (pa.array([{"a": 1}]), "image_column", "must hold strings or bytes"),
    ],
)
def test_a_column_of_another_type_is_refused(tmp_path: Path, column: pa.Array, flag: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"^--parquet file://{tmp_path}/x.parquet: .*{words}"):
        read(tmp_path / "x.parquet", {"x": column}, **{flag: "x"})


def test_files_that_differ_in_where_their_pictures_are_do_not_go_together(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": ["x.png"]}), tmp_path / "b.parquet")
    source = table_rows.of_what_is_there(source_of("parquet", tmp_path / "*.parquet", image_column="image"))
    with pytest.raises(UsageError, match=r"b.parquet: column image is string, and must hold the bytes of pictures"):
        items_of(source)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"id,text\n", b"PAR1" + bytes(50) + b"PAR1"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(UsageError, match=r"^--parquet file://.* cannot be read as parquet"):
        table_rows.check(source_of("parquet", tmp_path / "x.parquet", text_column="text"))
