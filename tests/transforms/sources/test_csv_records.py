"""What a CSV file is, and its records: as Python's strict reader has them, or refused with the line."""

import csv
import gzip
import io
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from transforms.errors import UsageError
from transforms.sources import csv_records
from transforms.sources.csv_records import Batch, Dialect


def rows_of(batches: Iterable[Batch]) -> list[list[str]]:
    return [
        list(row) for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]


def read(content: bytes, *columns: str, file: str = "rows.csv") -> tuple[list[str], list[Batch]]:
    dialect = csv_records.read_dialect(stream := io.BytesIO(content), file, columns)
    header = csv_records.header_of(stream, file, dialect)
    stream.seek(0)
    return header, list(csv_records.batches(stream, file, dialect))


def cells(content: bytes, *columns: str, file: str = "rows.csv") -> list[list[str]]:
    return rows_of(read(content, *columns, file=file)[1])


def refused(content: bytes) -> str:
    with pytest.raises(UsageError) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- quotation marks ---


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('id,text\n1,red\n2,"blue\n3,green\n', "no quotation mark closes the one in line 3, which begins '2,\"blue"),
        (
            'id,text\n1,"5 inch\n2,blue\n3,7" tablet\n',
            "row of line 2, which begins '1,\"5 inch.*closed inside text",
        ),
        ('id,text\n1,"a"b\n', "row of line 2.*closed inside text: write it twice"),
        ('id,text\n1,"a" \n', "row of line 2.*closed inside text"),
        ('id,text\n\n\n1,a\n2,"two\nlines"\n3,"x"y\n', "row of line 7"),
        ('"id,text\n1,a\n', "no quotation mark closes the one in line 1"),
        ('id,"te"xt\n1,a\n', "row of line 1.*closed inside text"),
    ],
)
def test_a_quotation_mark_that_would_swallow_rows_is_refused_with_its_line(content: str, what: str) -> None:
    assert re.search(what, refused(content.encode()))


def test_a_quotation_mark_inside_an_unquoted_cell_is_text() -> None:
    assert cells(b'id,text\n1,7" tablet\n2,5\'4"\n') == [["1", '7" tablet'], ["2", "5'4\""]]


def test_a_quotation_mark_that_is_never_closed_is_refused_within_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        'id,text\n1,"red\n' + "".join(f"{number},green star number {number}\n" for number in range(600_000))
    )
    code = (
        "import sys; from transforms.errors import UsageError; from transforms.sources import csv_records as c\n"
        "stream = open(sys.argv[1], 'rb')\n"
        "try: list(c.batches(stream, 'rows.csv', c.read_dialect(stream, 'rows.csv', ())))\n"
        "except UsageError as error: print(error)\n"
        "print(open('/proc/self/status').read())"
    )
    ended = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)

    assert "begins in line 2: shorten it, or close the quotation mark" in ended.stdout
    peak = re.search(r"VmHWM:\s+(\d+) kB", ended.stdout)
    assert peak is not None
    assert int(peak[1]) < 1e6


# --- line ends ---


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("inside", ["\n", "\r\n", "\r"])
def test_a_line_end_of_another_kind_is_text(end: str, inside: str) -> None:
    rows = [["1", f"red{inside}circle"], ["2", "blue"]]
    quoted = end.join(["id,text", f'1,"red{inside}circle"', "2,blue", ""])
    bare = end.join(["id,text", f"1,red{inside}circle", "2,blue", ""])

    assert cells(quoted.encode()) == rows
    if end not in inside and inside not in end:
        assert cells(bare.encode()) == rows


def test_windows_line_ends_among_others_end_lines() -> None:
    assert cells(b"id,text\n1,a\r\n2,b\n") == [["1", "a"], ["2", "b"]]


def test_lines_are_counted_through_blank_and_quoted_ones() -> None:
    header, (batch,) = read(b'\n"id","te\nxt"\n\n1,"a\nb\nc"\n2,d\n3,"x\ny",4\n5\n')

    assert header == ["id", "te\nxt"]
    assert batch.odd == [(9, 3, '3,"x\ny",4'), (11, 1, "5")]


# --- delimiters ---


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("id\ttext\n1\tred, circle\n", ["text"]),
        ("id;text\n1;red, circle\n", ["text"]),
        ("id|text\n1|red, circle\n", ["id", "text"]),
        ("id;text\n1;red, circle\n", []),
        ("sep=;\nid;text\n1;red, circle\n", ["text"]),
        ("sep=,\r\nid,text\r\n1,\"red, circle\"\r\n", ["text"]),
        ("SEP=^\nid^text\n1^red, circle\n", ["text"]),
        ("\ufeffsep=\t\nid\ttext\n1\tred, circle\n", ["text"]),
        ('"a,b";text\n1;red, circle\n', ["text"]),
    ],
)  # fmt: skip
def test_the_delimiter_is_what_the_header_and_the_columns_say(content: str, columns: list[str]) -> None:
    assert cells(content.encode(), *columns) == [["1", "red, circle"]]


def test_a_column_whose_name_holds_a_delimiter_is_found() -> None:
    assert cells(b"a|b;c\nx|y;z\n", "a|b;c") == [["x|y;z"]]
    assert cells(b"a\tb,c\nx\ty,z\n", "c") == [["x\ty", "z"]]
    assert cells(b"a,b\tc\nx,y\tz\n", "c", file="rows.tsv") == [["x,y", "z"]]


@pytest.mark.parametrize("mark", ['"', "§", "", "ab"])
def test_a_sep_line_that_names_no_delimiter_is_a_header_like_any_other(mark: str) -> None:
    assert read(f"sep={mark}\nx\n".encode())[0] == [f"sep={mark}"]


def test_lines_below_a_sep_line_are_counted_from_it() -> None:
    assert read(b"sep=;\nid;text\n1;a\n2\n")[1][0].odd == [(4, 1, "2")]


# --- what is no CSV in UTF-8 ---


KOREAN, JAPANESE, CHINESE = (
    "id,text\n1,빨간 원\n2,파란 별\n",
    "id,text\n1,赤い丸\n2,青い星\n",
    "id,text\n1,红色的圆\n2,蓝色\n",
)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"id,text\n1,red\n", mtime=0), "compressed with gzip: unpack it with gunzip"),
        (b"PK\x03\x04rest", "a zip or an Excel workbook"),
        (b"PAR1rest", "a parquet file"),
        (KOREAN.encode("iso2022_kr"), "is not UTF-8 but ISO-2022-KR: convert it with iconv -f ISO-2022-KR -t UTF-8"),
        (JAPANESE.encode("iso2022_jp"), "iconv -f ISO-2022-JP -t UTF-8"),
        (CHINESE.encode("hz"), "iconv -f HZ -t UTF-8"),
        (KOREAN.encode("utf-7"), "iconv -f UTF-7 -t UTF-8"),
        ("id,text\n1,café\n".encode("utf-7"), "iconv -f UTF-7 -t UTF-8"),
        (KOREAN.encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
        (KOREAN.encode("utf-32"), "iconv -f UTF-32 -t UTF-8"),
        ("id,text\n1,red\n".encode("utf-16-le"), "iconv -f UTF-16LE"),
        (KOREAN.encode("cp949"), "is not UTF-8: convert it, for example with iconv -f CP949"),
        (b"id,text\n" + b"1,red circle\n" * 100_000 + JAPANESE.encode("iso2022_jp"), "line 100003 is ISO-2022-JP"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",
)
def test_what_only_looks_like_text_is_refused_with_what_to_convert_it_from(content: bytes, what: str) -> None:
    assert what in refused(content)


@pytest.mark.parametrize(
    "cell",
    ["C++ and +", "+82-10-1234-5678", "a+foo-bar", "x=a+b-c", "1+1=2", "{~}", "~{x}", "a~{b~}c", "\x1b[31mred\x1b[0m",
     "ÃƒÂ©", "a\0b"],
)  # fmt: skip
def test_what_looks_a_little_like_another_encoding_is_text(cell: str) -> None:
    assert cells(f"id,text\n1,{cell}\n".encode()) == [["1", cell]]


# --- against Python's reader ---


def generated(seed: int) -> str:
    """A file as people write them: mostly right, with marks, delimiters and line ends where they hurt."""
    choose = random.Random(seed)
    end = choose.choice(["\n", "\r\n"])
    words = ["red", "", '7"', "a b", "한글", "'", ";", "\t", " ", "x" * 40, "é"]

    def cell() -> str:
        text = "".join(choose.choices(words, k=choose.randint(0, 3)))
        kind = choose.random()
        if kind < 0.3:
            inside = text + choose.choice(["", ",", end, "\n", '"'])
            return '"' + inside.replace('"', '""') + '"'
        if kind < 0.34:
            return choose.choice(['"', '"a"b', 'a"', '"a" ', '""a', '"""', '"a""'])
        return text

    rows = [",".join(cell() for _ in range(choose.choice([3, 3, 3, 3, 3, 2, 4]))) for _ in range(choose.randint(0, 12))]
    return end.join(["a,b,c", *rows]) + choose.choice(["", end])


def strictly(text: str) -> list[list[str]] | None:
    """The records that Python's strict reader makes of a file, but blank lines; `None` where it refuses the file."""
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        return None


@pytest.mark.parametrize("start", range(0, 2000, 500))
def test_records_are_those_of_a_strict_reader_or_the_file_is_refused_with_a_line(start: int) -> None:
    refusals = 0
    for seed in range(start, start + 500):
        text = generated(seed)
        expected = strictly(text)
        stream, dialect = (
            io.BytesIO(text.encode()),
            Dialect(",", "\r\n" if "\r\n" in text.split("a,b,c")[1][:2] else "\n"),
        )
        if expected is None:
            refusals += 1
            with pytest.raises(UsageError, match=r"line \d+"):
                list(csv_records.batches(stream, "rows.csv", dialect))
            continue
        batches = list(csv_records.batches(stream, "rows.csv", dialect))
        assert rows_of(batches) == [row for row in expected[1:] if len(row) == 3], seed
        assert [count for batch in batches for _, count, _ in batch.odd] == [
            len(row) for row in expected[1:] if len(row) != 3
        ], seed

    assert 50 < refusals < 450
