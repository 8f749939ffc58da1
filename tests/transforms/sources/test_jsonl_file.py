"""Every line of a JSON Lines file is an item or a reject with its line and a reason."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.transforms.sources.row_sources import items_of, source_of
from transforms.errors import UsageError
from transforms.sources import items, jsonl_file, table_rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def read(file: Path, *lines: str | bytes, **columns: Any) -> list[dict[str, Any]]:
    file.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    source = source_of("jsonl", file, **{"text_column": "text", **columns})
    table_rows.check(source)
    return items_of(source)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('"007"', "007"), ("7", "7"), ("1.50", "1.50"), ("-1e3", "-1e3"), ("12345678901234567890123", None),
        ("true", "true"), ("null", None), ('""', ""), ('[1, {"a": null}]', None), ('{"a":  1}', None),
        ('"\\ud55c\\uae00 \\u0000 \\ud83d\\ude00"', "한글 \0 😀"),
    ],
)  # fmt: skip
def test_a_value_stays_as_it_is_spelled_and_nested_ones_are_their_json(
    file: Path, value: str, cell: str | None
) -> None:
    (row,) = read(file, f'{{"text": "red", "other": {value} }}')
    assert row["other"] == (None if value == "null" else value if cell is None else cell)


def test_a_field_that_comes_late_is_a_column_of_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl_file, "BATCH_BYTES", 30)
    source = source_of("jsonl", file, text_column="text")
    read(file, '{"text": "a"}', '{"text": "b", "n": 1}', '{"n": 2, "text": "c", "key": 9}', '{"text": "d"}')
    whole = file.with_name("items.parquet")
    items.write(table_rows.RowListing(source).batches(f"file://{file}"), whole)
    found = pq.read_table(whole).select([items.TEXT, "text", "n", "source_key", items.LINE]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("a", "a", None, None, 1), ("b", "b", "1", None, 2), ("c", "c", "2", "9", 3), ("d", "d", None, None, 4),
    ]  # fmt: skip
    assert {path.name for path in file.parent.iterdir()} == {"rows.jsonl", "items.parquet"}


def test_marks_blank_lines_and_windows_line_ends_do_not_matter(file: Path) -> None:
    found = read(file, b'\xef\xbb\xbf{"text": "a"}\r', b"", b"  \r", b'{"text": "b"}')
    assert [(row["text"], row[items.LINE]) for row in found] == [("a", 1), ("b", 4)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[1, 2]", "NoObject: the line is a list, and no object"),
        (b'"red"', "NoObject: the line is a text, and no object"),
        (b"7", "NoObject: the line is a number, and no object"),
        (b"null", "NoObject: the line is null, and no object"),
        (b'{"text": "a", "text": "b"}', "DoubleName: the line has the field 'text' twice"),
        (b'{"text": "a", "x": {"y": 1, "y": 2}}', "DoubleName: the line has the field 'y' twice"),
        (b'{"text": "\xff"}', "NotUtf8: byte 11 of the line is not UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "NotUtf8: byte 11"),
        (b'{"text": "\\ud800"}', "LoneSurrogate: a text of the line has half of a character"),
        (b'{"text": "a", "\\udc00": 1}', "LoneSurrogate"),
        (b'{"text": "a", "x": ["\\ud800"]}', "LoneSurrogate"),
        (b'{"text": NaN}', "BadJson: NaN is no JSON"),
        (b'{"text": "a", "x": [-Infinity]}', "BadJson: -Infinity is no JSON"),
        (b'{"text": "a", "x": 1e999}', "HugeNumber: 1e999… is more than a number can be"),
        (b'{"text": "a", "x": ' + b"9" * 5000 + b"}", "HugeNumber: 99999999999999999999…"),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "TooDeep: "),
        (b'{"text": "a"', "BadJson: "),
        (b'{"text": "a"} {}', "BadJson: Extra data"),
        (b'{"text": "a\tb"}', "BadJson: "),
        (b'{"text": "' + b"a" * 200_000 + b'"}', "TooLong: the line has more than 150000 bytes"),
        (b'{"text": ["a"]}', "NoText: the field text is a list, and no text"),
        (b'{"text": {}}', "NoText: the field text is an object, and no text"),
        (b"{}", "Empty: the item has neither a picture nor a text"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_line_that_cannot_be_read_is_rejected_with_its_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, problem: str
) -> None:
    monkeypatch.setattr(jsonl_file, "LINE_BYTES", 250_000 if b"[[" in line else 150_000)
    found = read(file, '{"text": "red"}', line, b"", '{"text": "blue"}')
    assert {row[items.TEXT] for row in found if not row[items.PROBLEM]} == {"red", "blue"}
    (bad,) = [row for row in found if row[items.PROBLEM]]
    assert bad[items.PROBLEM].startswith(problem)
    assert (bad[items.LINE], bad[items.ROWS]) == (2, 0)
    assert len({row["key"] for row in found}) == 3


def test_equal_bad_lines_have_keys_of_their_own(file: Path) -> None:
    found = read(file, "[1]", "[1]", '{"text": "a"}', '{"text": "a"}')
    assert len({row["key"] for row in found}) == 4


def test_keywords_are_a_list_or_a_text_that_is_split(file: Path) -> None:
    lines = ('{"w": ["red", " dark blue ", "", "a,b"]}', '{"w": "red, blue"}', '{"w": [1]}', '{"w": null, "text": "x"}')
    found = read(file, *lines, keyword_column="w")
    assert [row[items.KEYWORDS] for row in found] == [["red", "dark blue", "a,b"], ["red", "blue"], None, None]
    assert [row[items.PROBLEM] for row in found] == [None, None, None, "NoText: the field w is a list, and no text"]


def test_a_key_is_that_of_its_column_or_of_what_the_object_holds_in_any_order(file: Path) -> None:
    one, other, third = read(file, '{"text": "a", "n": 1}', '{"n": 1, "text": "a"}', '{"text": "a", "n": 2}')
    assert one["version"] == other["version"] != third["version"]
    assert other["key"] == one["key"].removesuffix("0") + "1"
    keys = [row["key"].rpartition("#")[2] for row in read(file, '{"text": "a", "id": 7}', '{"text": "b", "id": "x"}',
                                                          key_column="id")]  # fmt: skip
    assert keys == ["7", "x"]


def test_a_picture_is_relative_to_the_file(file: Path) -> None:
    (row,) = read(file, '{"image": "p/a.png", "text": "a"}', image_column="image")
    assert row["uri"] == row[items.IMAGE] == f"file://{file.parent}/p/a.png"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: its first line must name the columns"),
        (b'[\n{"text": "a"},\n{"text": "b"}\n]', "has values of several lines: write one object a line"),
        (b'[{"text": "a"}]', r"holds no object \(line 1: NoObject: the line is a list"),
        (b"id,text\n1,a\n", "holds no object"),
        (b"PAR1", "is a parquet file: give it to --parquet"),
        ('{"text": "a"}\n'.encode("utf-16"), "is not UTF-8: convert it with iconv -f UTF-16"),
        (b'{"title": "a", "n": 1}\n' * 1200, r"--text-column text: file://.* has no column text; it has title, n$"),
    ],
)
def test_a_file_that_cannot_work_is_refused(file: Path, content: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(file, content)


def test_a_column_that_comes_late_is_found(file: Path) -> None:
    assert len(read(file, *['{"title": "a"}'] * 1200, '{"text": "b"}')) == 1201


def test_fields_without_end_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl_file, "FIELDS", 20)
    with pytest.raises(UsageError, match="more than 20 different fields: each would be a column; nest"):
        read(file, *(f'{{"text": "a", "f{number}": 1}}' for number in range(30)))
