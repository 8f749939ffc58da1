"""Every row of a CSV becomes an item: cells stay as they are spelled, and a key does not depend on its place."""

import unicodedata
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.sources.csv_files import rows, source, write
from tests.work import at_most
from transforms.errors import UsageError
from transforms.sources import csv_records, items, table_rows
from transforms.sources.table_rows import RowListing, row_names
from transforms.sources.words import split_keywords


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


# --- cells ---


@pytest.mark.parametrize(
    "cell",
    ["007", "", "NULL", "null", "NA", "nan", "1e5", "true", " 1 ", "2020-01-01", "-", "한글", '"', "a,b", "a\nb",
     "a\r\nb", "a\0b", "'", "=1+1", "x" * 5000, "\ufeff", "\ufeffa"],
)  # fmt: skip
def test_a_cell_stays_as_it_is_spelled(file: Path, cell: str) -> None:
    write(file, [["other", "text"], [cell, "t"], ["v", cell]])

    assert [row["other"] for row in rows(file, text_column="text")] == [cell, "v"]
    assert [row["text"] for row in rows(file, text_column="text")] == ["t", cell]


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(table=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6))
def test_what_python_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, ...]]
) -> None:
    file = write(tmp_path_factory.mktemp("csv") / "rows.csv", [["a", "b", "c"], *table])

    found = rows(file, text_column="a")

    assert [(row["a"], row["b"], row["c"]) for row in found] == table


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfname,n\na,1\nb,2\n",
        b"name,n\r\na,1\r\nb,2\r\n",
        b"name,n\na,1\nb,2",
        b'"name","n"\n"a","1"\n"b","2"\n',
        b'\xef\xbb\xbf"name",n\na,1\nb,2\n',
        b"name,n\n\na,1\n\n\nb,2\n\n",
    ],
)
def test_marks_line_ends_quotes_and_blank_lines_do_not_matter(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    assert [(row["name"], row["n"]) for row in rows(file, text_column="name")] == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize("ending", [".tsv", ".TSV", ".tab"])
def test_a_tsv_is_split_on_tabs(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"rows{ending}"
    file.write_text("name\tn\na,b\t1\n")

    assert [(row["name"], row["n"]) for row in rows(file, text_column="name")] == [("a,b", "1")]


def test_a_header_with_a_quoted_line_break_is_one_header(file: Path) -> None:
    write(file, [["two\nlines", "n"], ["a", "1"]])

    assert [(row["two\nlines"], row["n"]) for row in rows(file, text_column="two\nlines")] == [("a", "1")]


def test_double_and_empty_header_names_get_names_of_their_own(file: Path) -> None:
    write(file, [["name", "name", "", "key", "id", "embedding"], ["a", "b", "c", "d", "e", "f"]])
    (row,) = rows(file, key_column="id", text_column="key")

    assert (row["name"], row["name_2"], row["column_3"]) == ("a", "b", "c")
    assert (row["source_key"], row["source_id"], row["source_embedding"]) == ("d", "e", "f")
    assert row["key"] == f"file://{file}#e"
    assert row[items.TEXT] == "d"


def test_a_csv_on_an_object_store_is_read() -> None:
    url = f"memory:///{uuid.uuid4().hex}/rows.csv"
    fsspec.filesystem("memory").pipe_file(url, b"image,name\na.png,x\n")
    (row,) = rows(url, image_column="image")

    assert row["uri"] == row[items.IMAGE] == url.replace("rows.csv", "a.png")


# --- what is refused before any work ---


def test_a_missing_column_is_refused_with_those_that_are_there(file: Path) -> None:
    write(file, [["image", "name"], ["a", "b"]])

    with pytest.raises(UsageError, match=r"--text-column title: .* has no column title; it has image, name$"):
        table_rows.check(source(file, text_column="title"))


def test_a_column_that_is_there_twice_is_refused(file: Path) -> None:
    write(file, [["name", "name"], ["a", "b"]])

    with pytest.raises(UsageError, match=r"--text-column name: .* has 2 such columns: rename one"):
        table_rows.check(source(file, text_column="name"))


def test_a_csv_without_a_column_to_embed_is_refused(file: Path) -> None:
    write(file, [["image", "name"], ["a", "b"]])

    with pytest.raises(UsageError, match=r"name what to embed with --image-column.*the columns are image, name"):
        table_rows.check(source(file, key_column="name"))


def test_an_empty_separator_is_refused(file: Path) -> None:
    write(file, [["words"], ["a"]])

    with pytest.raises(UsageError, match="--keyword-separator is empty"):
        table_rows.check(source(file, keyword_column="words", keyword_separator=""))


@pytest.mark.parametrize("header", ["name,이름\n", "name,text\n", "name,text\n" + "a,b\n" * 9000])
def test_a_file_that_is_not_utf8_is_refused_with_the_way_out(file: Path, header: str) -> None:
    file.write_bytes(header.encode("cp949") + "한글,둘\n".encode("cp949"))

    with pytest.raises(UsageError, match=r"is not UTF-8: convert it.*iconv -f CP949"):
        table_rows.check(source(file, text_column="name"))
        rows(file, text_column="name")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    with pytest.raises(UsageError, match="is empty: its first line must name the columns"):
        table_rows.check(source(file, text_column="name"))


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_header_alone_has_no_items(file: Path, end: str) -> None:
    file.write_text(f"name,text{end}")
    table_rows.check(source(file, text_column="name"))

    assert rows(file, text_column="name") == []


@pytest.mark.parametrize("location", ["/gone/rows.csv", "/", "nonsense://a/rows.csv", "memory:///gone.csv"])
def test_a_csv_that_cannot_be_opened_is_refused(location: str) -> None:
    with pytest.raises(UsageError, match=r"--csv .*(No such file|directory|cannot be opened|nonsense)"):
        table_rows.check(source(location, text_column="name"))


def test_a_row_that_is_too_long_is_refused_by_its_limit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "RECORD_LIMIT", 1000)
    write(file, [["name", "text"], *[["a", "b"]] * 500, ["a", "long " * 1000], *[["a", "b"]] * 500])

    with pytest.raises(UsageError, match="a row of more than 1000 characters, which begins in line 502"):
        rows(file, text_column="name")


# --- rows that do not fit ---


@pytest.mark.parametrize("block", [64, 100, 1 << 20])
def test_a_row_that_does_not_fit_is_kept_with_its_problem_and_counts_add_up(
    file: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(csv_records, "BATCH_CHARACTERS", block)
    lines = [
        f"n{number}" if number % 7 == 3 else f"n{number},t{number}" + ",more,still" * (number % 5 == 4)
        for number in range(100)
    ]
    file.write_text("\n".join(["name,text", *lines, ""]))

    found = rows(file, text_column="text")
    broken = [row for row in found if row[items.PROBLEM]]

    assert len(found) == 100
    assert len({row["key"] for row in found}) == 100
    assert [row[items.PROBLEM] for row in broken] == [
        f"WrongNumberOfCells: the row has {1 if n % 7 == 3 else 4} cells, the header 2"
        for n in range(100)
        if n % 7 == 3 or n % 5 == 4
    ]
    assert {row["name"]: row[items.LINE] for row in found if row["text"]} == {
        f"n{n}": n + 2 for n in range(100) if n % 7 != 3 and n % 5 != 4
    }
    assert [row[items.LINE] for row in broken] == [n + 2 for n in range(100) if n % 7 == 3 or n % 5 == 4]
    assert all(row[items.ROWS] == 0 for row in broken)
    assert broken[0]["name"] == "n3"


def test_a_file_of_rows_that_do_not_fit_is_kept_too(file: Path) -> None:
    file.write_text("name,text\na\nb\n")

    assert [row[items.PROBLEM] is None for row in rows(file, text_column="text")] == [False, False]


def test_a_last_row_that_does_not_fit_is_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "BATCH_CHARACTERS", 32)
    file.write_text("name,text\n" + "aaa,bbb\n" * 20 + "lonely\n")

    assert len(rows(file, text_column="text")) == 21


def test_an_item_with_nothing_to_embed_is_kept_with_its_problem(file: Path) -> None:
    write(file, [["image", "text", "words", "n"], ["", " \t ", " , ", "1"], ["", "x", "", "2"]])
    empty, filled = rows(file, image_column="image", text_column="text", keyword_column="words")

    assert empty[items.PROBLEM] == "Empty: the item has neither a picture nor a text"
    assert (empty[items.TEXT], empty[items.KEYWORDS], empty[items.IMAGE], empty[items.ROWS]) == (None, None, None, 0)
    assert (filled[items.PROBLEM], filled[items.TEXT], filled[items.ROWS]) == (None, "x", 1)


def test_an_item_with_too_many_keywords_is_kept_with_its_problem(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "KEYWORDS_PER_ITEM", 3)
    write(file, [["words"], ["a,b,c"], ["a,b,c,d"]])
    fits, many = rows(file, keyword_column="words")

    assert (fits[items.ROWS], fits[items.PROBLEM]) == (3, None)
    assert many[items.PROBLEM].startswith("TooManyKeywords: the item has more than 3")


def test_blank_lines_at_the_start_of_a_file_are_skipped_like_all_others(file: Path) -> None:
    file.write_text("\n\nname,text\na,b\n")
    table_rows.check(source(file, text_column="text"))

    assert [row["name"] for row in rows(file, text_column="text")] == ["a"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["", "sep=,", "\ufeff", "\n\n"])
def test_a_row_has_the_line_on_which_it_begins(file: Path, first: str, end: str) -> None:
    start = first + end if first.startswith("sep") else first.replace("\n", end)
    lines = ["name,text", "a,one", "", 'b,"two', "", 'lines"', "c,three", '"d","four"']
    file.write_bytes((start + end.join([*lines, ""])).encode())
    before = start.count(end)

    assert {row["name"]: row[items.LINE] for row in rows(file, text_column="text")} == {
        "a": before + 2, "b": before + 4, "c": before + 7, "d": before + 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    "blank",
    [" ", "\u3000", "&nbsp;", "&amp;nbsp;", "&#160;&#xA0;", "\x01\x02", "\ufeff", "\u200b\u200d", " &zwnj; \t&#8203;",
     "\x7f"],
)  # fmt: skip
def test_a_text_of_which_nothing_is_left_is_no_text(file: Path, blank: str) -> None:
    write(file, [["text", "words"], [blank, "x"], [blank, f"{blank},{blank}"], ["a" + blank, f"{blank},y"]])
    first, empty, last = rows(file, text_column="text", keyword_column="words")

    assert (first[items.TEXT], first[items.KEYWORDS], first["text"]) == (None, ["x"], blank)
    assert empty[items.PROBLEM] == "Empty: the item has neither a picture nor a text"
    assert empty[items.LINE] == 3
    assert (last[items.TEXT], last[items.KEYWORDS]) == ("a" + blank, ["y"])


@pytest.mark.parametrize(
    "text", ["-", "&lt;", "&", "&nbsp;.", "\u0301", "\U0001fae8", "\ue000", "&unknown;", "0", "&#x41;"]
)
def test_what_can_be_seen_is_a_text(file: Path, text: str) -> None:
    write(file, [["text"], [text]])

    assert rows(file, text_column="text")[0][items.TEXT] == text


# --- keys ---


@given(
    table=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "x", "한"])), max_size=12),
    shuffled=st.randoms(use_true_random=False),
)
def test_reordering_rows_changes_no_key(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]], shuffled: Any
) -> None:
    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    before = rows(write(file, [["a", "b"], *table]), text_column="a")
    shuffled.shuffle(table)
    after = rows(write(file, [["a", "b"], *table]), text_column="a")

    assert sorted(row["key"] for row in before) == sorted(row["key"] for row in after)
    assert len({row["key"] for row in before}) == len(table)
    assert {(row["key"], row["version"], row["a"], row["b"]) for row in before} == {
        (row["key"], row["version"], row["a"], row["b"]) for row in after
    }


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_equal_rows_are_numbered_across_the_whole_file(file: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(csv_records, "BATCH_CHARACTERS", block)
    found = rows(write(file, [["name"], *[["same name"]] * 30]), text_column="name")
    hashes = {row["key"].rpartition("#")[0] for row in found}

    assert len(hashes) == 1
    assert [row["key"].rpartition("#")[2] for row in found] == [str(number) for number in range(30)]


def test_a_key_column_names_the_row(file: Path) -> None:
    write(file, [["id", "text"], ["007", "a"], ["", "b"], [" ", "c"], [unicodedata.normalize("NFD", "한글"), "d"]])
    found = [row["key"].removeprefix(f"file://{file}#") for row in rows(file, key_column="id", text_column="text")]

    assert (found[0], found[3]) == ("007", "한글")
    for fallback in found[1:3]:
        assert len(fallback) == 32 + len("#0")


def test_only_rows_without_a_primary_key_are_counted() -> None:
    seen: Counter[str] = Counter()
    primary, content = pa.array(["007", None, "008", None]), pa.array(["h0", "h1", "h2", "h1"])

    assert row_names(primary, content, seen).to_pylist() == ["007", "h1#0", "008", "h1#1"]
    assert seen == {"h1": 2}


def test_cells_that_run_together_are_different_rows(file: Path) -> None:
    write(file, [["a", "b"], ["xy", ""], ["x", "y"], ["", "xy"]])

    assert len({row["version"] for row in rows(file, text_column="a")}) == 3


# --- keywords ---


def keywords_of(cells: list[str | None], separator: str = ",") -> list[list[str] | None]:
    found: list[list[str] | None] = split_keywords(pa.array(cells, pa.string()), separator).to_pylist()
    return found


def test_keywords_are_split_trimmed_and_never_empty() -> None:
    assert keywords_of([" red , ,blue,", "", None, ",", "one", " 하늘 , 바다 "]) == [
        ["red", "blue"], None, None, None, ["one"], ["하늘", "바다"],
    ]  # fmt: skip


@pytest.mark.parametrize("separator", [";", "|", ".", " ", ", ", "\\"])
def test_a_separator_is_taken_literally(separator: str) -> None:
    assert keywords_of([f"a{separator}b"], separator) == [["a", "b"]]


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)))
def test_keywords_are_what_python_would_split(cells: list[str | None]) -> None:
    expected = [[word.strip() for word in (cell or "").split(",") if word.strip()] or None for cell in cells]
    assume_same_white_space = [
        cell and "".join(c for c in cell if unicodedata.category(c) not in ("Cc", "Cf")) for cell in cells
    ]

    if assume_same_white_space == cells:
        assert keywords_of(cells) == expected


# --- speed ---


def test_a_row_takes_few_lines(file: Path) -> None:
    with file.open("w") as stream:
        stream.write("image,name,words\n")
        stream.writelines(f"https://host/{number}.png,name {number},red\n" for number in range(10_000))
    listing = RowListing(source(file, image_column="image", text_column="name", keyword_column="words"))

    with at_most(400_000):
        count = sum(map(len, listing.batches(f"file://{file}")))

    assert count == 10_000


def test_a_row_with_an_inch_mark_that_does_not_fit_is_only_rejected(file: Path) -> None:
    file.write_text('text,b\n5" pipe,1,2\nx,2\n')
    assert [row[items.PROBLEM] is None for row in rows(file, text_column="text")] == [True, False]
