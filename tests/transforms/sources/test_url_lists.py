"""Lists of URLs: a text of lines, and what is no URL; the other formats are tried by `test_row_sources`.

Thousands of lists instead of hundreds, with

    HYPOTHESIS_PROFILE=thorough python -m pytest tests/transforms/sources/test_url_lists.py
"""

import codecs
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import web
from tests.transforms import nights
from tests.transforms.sources.row_sources import items_of, packed
from transforms.errors import UsageError
from transforms.records import Changes, Source
from transforms.sources import items, table_rows, url_lists
from transforms.sources.url_lists import LINE_BYTES, pattern_of


def source_of(pattern: object, **columns: Any) -> Source:
    return Source("urls", pattern_of(str(pattern)), **{"image_column": "url", **columns})


def pictures_of(file: Path, content: bytes) -> list[tuple[str | None, str | None]]:
    """The picture and the problem of every item of a list."""
    file.write_bytes(content)
    table_rows.check(source_of(file))
    return [(row[items.IMAGE], row[items.PROBLEM]) for row in items_of(source_of(file))]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_line_is_a_url_but_for_blank_ones_and_comments(tmp_path: Path, ending: str) -> None:
    lines = ["# pictures of 2026", "https://h/a.jpg", "", "  http://h/b c.png  ", " # more", "s3://b/é.png"]
    content = codecs.BOM_UTF8 + "\r\n".join(lines).encode()
    found = pictures_of(tmp_path / f"list.txt{ending}", packed(content, ending))
    assert found == [("https://h/a.jpg", None), ("http://h/b c.png", None), ("s3://b/é.png", None)]


def test_a_row_has_its_line_and_the_same_url_twice_is_two_items(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("https://h/a\n#\nhttps://h/a\n")
    first, second = items_of(source_of(file))
    assert (first[items.LINE], second[items.LINE]) == (1, 3)
    assert first["key"].rpartition("#")[2] == "0" and second["key"].rpartition("#")[2] == "1"
    assert first["uri"] == second["uri"] == first["url"] == "https://h/a"


def test_what_is_no_url_no_text_or_too_long_is_a_reject_with_its_line(tmp_path: Path) -> None:
    lines = [b"https://h/a", b"example.com/b", b"https://h/\xff", b"https://h/" + b"c" * LINE_BYTES, b"/a/picture.png"]
    file = tmp_path / "list.txt"
    file.write_bytes(b"\n".join(lines))
    found = {row[items.LINE]: row[items.PROBLEM] for row in items_of(source_of(file))}
    assert found == {
        1: None,
        2: "NoURL: 'example.com/b' is no URL, such as https://host/picture.jpg",
        3: "NotUtf8: byte 11 of the line is not UTF-8",
        4: f"TooLong: the line has more than {LINE_BYTES} bytes",
        5: "NoURL: '/a/picture.png' is no URL, such as https://host/picture.jpg",
    }


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b" ")), max_size=20))
def test_every_line_with_something_on_it_is_an_item_or_a_reject(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    content = b"\n".join([b"https://h/first", *lines])
    file = tmp_path_factory.mktemp("lines") / "list.txt"
    file.write_bytes(content)
    found = items_of(source_of(file))
    texts = {number: line.decode(errors="replace").strip() for number, line in enumerate(content.split(b"\n"), 1)}
    assert sorted(row[items.LINE] for row in found) == [
        number for number, text in texts.items() if text and not text.startswith("#")
    ]
    assert all((row[items.PROBLEM] is None) == (row[items.ROWS] == 1) for row in found)


def test_batches_follow_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_lists, "_BATCH_LINES", 3)
    found = pictures_of(tmp_path / "list.txt", b"".join(b"https://h/%d\n" % number for number in range(10)))
    assert found == [(f"https://h/{number}", None) for number in range(10)]


def test_a_list_names_its_column_and_others_only_where_it_has_them(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("https://h/a\n")
    with pytest.raises(UsageError, match=r"--text-column caption: .* has no column caption; it has url$"):
        table_rows.check(source_of(tmp_path / "list.txt", text_column="caption"))
    (tmp_path / "list.csv").write_text("link,caption\nhttps://h/a,red\n,blue\n")
    source = source_of(tmp_path / "list.csv", image_column="link", text_column="caption")
    assert [(row[items.IMAGE], row[items.TEXT]) for row in items_of(source)] == [("https://h/a", "red"), (None, "blue")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.dat", b"https://h/a", "has no ending that tells its format: it may be .txt, .csv,"),
        ("list.txt", b"\xff\xfeh\0t\0t\0p\0s\0:\0/\0", "is not UTF-8: convert it with iconv"),
        ("list.txt.gz", packed(b"https://h/a\n" * 999, ".gz")[:40], "is damaged or cut short"),
        ("list.csv", b'url\n"https://h/a\n', "no quotation mark closes the one in line 2"),
        ("list.jsonl", b"[1]\n", "holds no object"),
        ("list.parquet", b"PAR1", "cannot be read as parquet"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_by_the_flag_that_named_it(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"^--urls file://{tmp_path}/{name}:? .*{said}"):
        table_rows.check(source_of(tmp_path / name))
        items_of(source_of(tmp_path / name))


def test_a_folder_means_the_parquet_files_that_a_downloader_leaves_in_it(tmp_path: Path) -> None:
    """As img2dataset does: a parquet file for each shard, beside statistics, pictures, and a text for each of these."""
    shards = tmp_path / "laion"
    for number in range(2):
        (shards / f"{number:05}").mkdir(parents=True)
        (shards / f"{number:05}" / "000000000.txt").write_text("a caption and no list\n")
        (shards / f"{number:05}_stats.json").write_text("{}")
        table = {
            "url": [f"https://h/{number}/{row}.jpg" for row in range(3)],
            "caption": ["red", "blue", None],
            "key": ["0", "1", "2"],
            "status": ["success", "failed_to_download", "success"],
            "width": pa.array([10, None, 10], pa.int32()),
        }
        pq.write_table(pa.table(table), shards / f"{number:05}.parquet")
    for location in (shards, f"{shards}/", f"{shards}/*.parquet"):
        source = source_of(location, text_column="caption")
        table_rows.check(source)
        found = items_of(source)
        assert [row["url"] for row in found] == [f"https://h/{n}/{row}.jpg" for n in range(2) for row in range(3)]
        _, second, *_ = found
        assert (second[items.TEXT], second["status"], second["source_width"]) == ("blue", "failed_to_download", None)


def test_a_night_asks_nobody_on_the_web_and_sees_what_changed_in_the_list(tmp_path: Path) -> None:
    data, root = tmp_path / "list.csv", tmp_path / "root"
    with web.serving() as server:
        data.write_text("sku,url\n" + "".join(f"k{n},{server.url(f'/ok/{n}')}\n" for n in range(5)))
        source = source_of(data, key_column="sku")
        nights.publish(root, (source,), lambda key: False)
        assert nights.plan(nights.begin_night(root)).changes == Changes(0, 0, 0, 5, 0, 0)
        data.write_text(data.read_text().replace("/ok/3", "/ok/3?v=2").replace("k4,", "new,"))
        assert nights.plan(nights.begin_night(root)).changes == Changes(1, 1, 1, 3, 0, 0)
        assert server.connections == 0


def test_a_file_that_a_list_names_is_asked_whether_it_changed(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"one")
    (tmp_path / "list.txt").write_text(f"file://{picture}\n")
    nights.publish(tmp_path / "root", (source_of(tmp_path / "list.txt"),), lambda key: False)
    picture.write_bytes(b"another")
    assert nights.plan(nights.begin_night(tmp_path / "root")).changes == Changes(0, 1, 0, 0, 0, 0)


@pytest.mark.parametrize("local", ["file:///etc/passwd", "FILE:///etc/passwd", "local:///x", "zip://a::file:///x"])
def test_a_list_from_elsewhere_names_no_local_file(local: str) -> None:
    cells = pa.array([local, "https://h/a.jpg", "s3://b/a.jpg", None])
    for place in ("https://h/list.txt", "s3://b/list.txt"):
        urls, problems = url_lists.problems_of(cells, place)
        assert urls.to_pylist()[:3] == [None, "https://h/a.jpg", "s3://b/a.jpg"]
        assert problems[0].as_py().startswith("NotFromElsewhere: ")
        assert problems.to_pylist()[1:] == [None, None, None]
    assert url_lists.problems_of(cells, "file:///d/list.txt")[1].null_count == 4
