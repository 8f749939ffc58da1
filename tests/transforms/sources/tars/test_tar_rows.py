"""What belongs together in an archive is an item, or one for each of its pictures; nothing is lost in silence."""

import functools
import http.server
import json
import os
import tarfile
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.transforms.sources.row_sources import items_of, source_of, tar_of
from tests.transforms.sources.tars.test_members import END, block, filled, pax
from transforms.errors import PixdexError, UsageError
from transforms.shards import ready_files
from transforms.sources import items, table_rows
from transforms.sources.left_out import Tally
from transforms.sources.tars import rows as tar_rows
from transforms.sources.tars import samples
from transforms.storage import uris
from transforms.tasks.embed.inside import PicturesInside

Items = list[dict[str, Any]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.tar"


def content_at(inside: PicturesInside, uri: str) -> bytes:
    located = inside.locate(uri, 10**7)
    assert located is not None
    return located.read()


def read(file: Path, members: dict[str, bytes] | bytes, **columns: Any) -> Items:
    file.write_bytes(members if isinstance(members, bytes) else tar_of(members))
    source = source_of("tar", file, **columns)
    table_rows.check(source)
    return items_of(source)


def named(found: Items) -> dict[str, Any]:
    """Problems of items, by what stands behind the file in their keys."""
    return {row["key"].partition(".tar#")[2]: row[items.PROBLEM] for row in found}


def left_out(file: Path, members: dict[str, bytes], **columns: Any) -> dict[str, int]:
    file.write_bytes(tar_of(members))
    tally = Tally()
    for _ in table_rows.RowListing(source_of("tar", file, **columns)).batches(f"file://{file}", tally):
        pass
    return dict(tally.left_out)


def test_a_sample_is_its_picture_with_caption_fields_and_small_texts(file: Path) -> None:
    fields = json.dumps({"key": 7, "width": 3.50, "tags": ["a", "b"], "none": None, "txt": "of json"}).encode()
    first, second = read(
        file,
        {
            "d/0.CLS": b"3\n", "d/0.jpg": b"one", "d/0.json": fields, "d/0.txt": b"\xef\xbb\xbfa red circle\n",
            "d/1.x.png": b"two",
        },
    )  # fmt: skip
    assert first["key"] == f"file://{file}#d/0.jpg" and second["key"] == f"file://{file}#d/1.x.png"
    assert [uris.read(row["uri"]) for row in (first, second)] == [b"one", b"two"]
    assert first[items.IMAGE] == first["uri"] and (first[items.ROWS], first[items.TEXT]) == (1, None)
    wanted = {
        "cls": "3", "txt": "a red circle", "json.txt": "of json", "source_key": "7", "source_width": "3.5",
        "tags": '["a", "b"]', "none": None, items.CAPTION: "a red circle",
    }  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert {second[name] for name in wanted} == {None}


def test_texts_and_keywords_are_embedded_where_they_are_named(file: Path) -> None:
    members = {"a.jpg": b"1", "a.txt": b"red", "a.json": b'{"words": ["x", " y "], "sku": 5}', "b.txt": b"blue"}
    columns = {"text_column": "txt", "keyword_column": "words", "key_column": "sku"}
    first, second = read(file, {**members, "c.json": b"{}"}, **columns)[:2]
    assert (first["key"], first[items.TEXT], first[items.KEYWORDS]) == (f"file://{file}#5", "red", ["x", "y"])
    assert (second["key"], second["uri"], second[items.TEXT]) == (f"file://{file}#b.txt", f"file://{file}", "blue")
    assert named(read(file, {**members, "c.json": b"{}"}, **columns)) == {
        "5": None, "b.txt": None, "c.json": "Empty: the item has neither a picture nor a text",
    }  # fmt: skip
    (row,) = read(
        file, {"a.jpg": b"1", "a.html": b"<b>red", "a.cls": b"x, y"}, text_column="html", keyword_column="cls"
    )
    assert (row[items.TEXT], row[items.KEYWORDS], row[items.ROWS]) == ("<b>red", ["x", "y"], 4)


def test_every_picture_of_a_sample_is_an_item_with_its_columns(file: Path) -> None:
    members = {"a.left.jpg": b"1", "a.right.jpg": b"2", "a.json": b'{"sku": 5, "text": "two"}', "b.png": b"3"}
    found = read(file, members, text_column="text")
    assert named(found) == {"a.left.jpg": None, "a.right.jpg": None, "b.png": None}
    assert [(row["sku"], row[items.TEXT]) for row in found] == [("5", "two"), ("5", "two"), (None, None)]
    keyed = read(file, members, key_column="sku")
    assert named(keyed) == {"5#left.jpg": None, "5#right.jpg": None, "b.png": None}


def test_pictures_in_folders_need_nothing_beside_them(file: Path) -> None:
    found = read(file, {"a/1.jpg": b"1", "b/1.jpg": b"1", "b/../1.jpeg": b"1", "/1.webp": b"1"})
    assert list(named(found)) == ["a/1.jpg", "b/1.jpg", "b/../1.jpeg", "/1.webp"]


def test_very_many_pictures_with_one_stem_are_several_samples(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "PICTURES", 3)
    monkeypatch.setattr(tar_rows, "_BATCH_ROWS", 2)
    found = read(file, {**{f"frame.{n}.jpg": b"x%d" % n for n in range(7)}, "frame.txt": b"the last"})
    assert [(row["key"][-5], row.get("txt")) for row in found] == [
        *((str(n), None) for n in range(6)), ("6", "the last"),
    ]  # fmt: skip
    assert [uris.read(row["uri"]) for row in found] == [b"x%d" % n for n in range(7)]


def test_what_is_no_item_is_counted(file: Path) -> None:
    members = {
        "README": b"", "LICENSE.md": b"of", ".hidden.jpg": b"1", "d/._a.jpg": b"1",
        "a.jpg": b"1", "a.npy": b"\x93NUM\0", "a.mp4": b"\xff" * 9, "b.txt": b"alone",
    }  # fmt: skip
    assert left_out(file, members) == {"no ending": 1, "hidden": 2, "md": 1, "npy": 1, "mp4": 1, "txt": 1}
    assert left_out(file, members, text_column="txt") == {"no ending": 1, "hidden": 2, "npy": 1, "mp4": 1}


def raw(*parts: bytes) -> bytes:
    return b"".join(parts) + END


JPEG = block(b"a.jpg", 3) + filled(b"abc")
PROBLEMS: dict[str, tuple[bytes, dict[str, str | None]]] = {
    "a link": (raw(block(b"a.jpg", kind=b"2"), block(b"b.jpg", kind=b"1")),
               {"a.jpg": "Link: the member 'a.jpg' is a link: write", "b.jpg": "Link: the member 'b.jpg' is a link"}),
    "a sparse file": (raw(block(b"a.jpg", 3, b"S"), filled(b"abc")), {"a.jpg": "Sparse: the member 'a.jpg' is"}),
    "a device": (raw(block(b"a.jpg", 3, b"3"), block(b"b.jpg", 3, b"M"), filled(b"abc")),
                 {"a.jpg": "NoFile: the member 'a.jpg' is no file", "b.jpg": "NoFile: "}),
    "no bytes": (raw(block(b"a.jpg")), {"a.jpg": "Empty: the member 'a.jpg' has no bytes"}),
    "a size in records": (raw(pax(b"10 size=3\n"), block(b"a.jpg", 9), filled(b"abc")), {"a.jpg": "OddHeader: "}),
    "a link beside a picture": (raw(JPEG, block(b"a.txt", kind=b"2")), {"a.jpg": "Link: the member 'a.txt' is a"}),
    "the same text twice": (raw(JPEG, block(b"a.txt"), block(b"a.TXT")), {"a.jpg": "DoubleName: the member 'a.TXT'"}),
    "bytes as a text": (raw(JPEG, block(b"a.txt", 3), filled(b"a\xffb")),
                        {"a.jpg": "NotUtf8: byte 2 of the member 'a.txt' is not UTF-8"}),
    "no JSON": (raw(JPEG, block(b"a.json", 3), filled(b"{a}")), {"a.jpg": "BadJson: Expecting property name"}),
    "a name twice": (raw(JPEG, block(b"a.json", 13), filled(b'{"a":1,"a":2}')),
                     {"a.jpg": "DoubleName: the member has the field 'a' twice, in 'a.json'"}),
    "a text too long": (raw(JPEG, block(b"a.txt", 2 << 20), bytes(b"x" * (2 << 20))),
                        {"a.jpg": "TooLong: with the member 'a.txt', the sample has more than 1048576 bytes"}),
    "very many texts": (raw(JPEG, *(block(b"a.t%d" % n) for n in range(1001))),
                        {"a.jpg": "TooManyTexts: the sample has more than 1000 texts"}),
    "a good one": (raw(JPEG, block(b"b.jpg", 3), filled(b"abc"), block(b"a.json", 2), filled(b"[]")),
                   {"a.jpg": None, "b.jpg": None}),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_cannot_be_embedded_is_a_reject_with_its_reason(file: Path, name: str) -> None:
    data, wanted = PROBLEMS[name]
    found = named(read(file, data))
    assert found.keys() == wanted.keys()
    for key, problem in wanted.items():
        assert (found[key] or "").startswith(problem or "") and (found[key] is None) == (problem is None), found


def test_texts_of_many_pictures_do_not_fill_the_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "REPEATED_BYTES", 100)
    pictures = {f"a.{n}.jpg": b"x" for n in range(5)}
    assert set(named(read(file, {**pictures, "a.txt": b"x" * 20})).values()) == {None}
    (problem,) = set(named(read(file, {**pictures, "a.txt": b"x" * 21})).values())
    assert problem == "TooLong: the sample has 21 bytes of text for each of 5 pictures, 100 in all at most"


def test_a_column_that_no_sample_has_is_refused_and_one_that_comes_late_is_found(file: Path) -> None:
    many = {f"{n}.jpg": b"x" for n in range(300)}
    with pytest.raises(UsageError, match=r"--text-column txt: .*x.tar has no column txt; it has no texts beside"):
        read(file, many, text_column="txt")
    with pytest.raises(UsageError, match=r"--text-column title: .*x.tar has no column title; it has txt"):
        read(file, {"0.jpg": b"x", "0.txt": b"x"}, text_column="title")
    assert len(read(file, {**many, "299.txt": b"x"}, text_column="txt")) == 300
    fields = {f"f{n}": n for n in range(1001)}
    with pytest.raises(UsageError, match="has more than 1000 different fields"):
        read(file, {"a.jpg": b"x", "a.json": json.dumps(fields).encode()})
    with pytest.raises(UsageError, match=r"--tars file://.*: it is a folder; name a file that can be read"):
        table_rows.check(source_of("tar", file.parent))


def test_two_members_of_one_name_have_one_key(file: Path) -> None:
    found = read(file, raw(JPEG, block(b"b.jpg", 3), filled(b"abc"), JPEG))
    assert [row["key"].rpartition("#")[2] for row in found] == ["a.jpg", "b.jpg", "a.jpg"]  # a plan refuses that


def test_pictures_are_read_in_few_requests_and_changed_ones_end_the_run(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {f"{n:02}.jpg": bytes([n]) * 300_000 for n in range(40)} | {"z.jpg": b"z" * 5_000_000}
    found = read(file, wanted)
    asked: list[tuple[int, int]] = []
    whole = ready_files.read_range

    def counted(uri: str, start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return whole(uri, start, stop)

    monkeypatch.setattr(ready_files, "read_range", counted)
    inside = PicturesInside({row["uri"]: row[items.INSIDE] for row in found})
    assert [content_at(inside, row["uri"]) for row in found] == list(wanted.values())
    assert len(asked) == 5 and max(stop - start for start, stop in asked[:-1]) <= 4 << 20
    assert content_at(inside, found[3]["uri"]) == bytes([3]) * 300_000  # a second time, too

    file.write_bytes(tar_of(dict(reversed(wanted.items()))))
    inside = PicturesInside({row["uri"]: row[items.INSIDE] for row in found})
    for row in (found[0], found[-1]):
        with pytest.raises(PixdexError, match="is not what it was when it was listed: put the archive back"):
            content_at(inside, row["uri"])
    file.unlink()
    inside = PicturesInside({row["uri"]: row[items.INSIDE] for row in found})
    with pytest.raises(PixdexError, match=r"cannot be read .FileNotFoundError.*could be when it was listed"):
        content_at(inside, found[1]["uri"])


def test_listing_holds_little_of_a_large_archive(file: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 300 << 20
    with file.open("wb") as stream:
        stream.write(info.tobuf())
    os.truncate(file, info.size + 3 * 512)
    pool = pa.total_allocated_bytes()
    tracemalloc.start()
    (row,) = items_of(source_of("tar", file))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20 and pa.total_allocated_bytes() - pool < 16 << 20
    tracemalloc.stop()
    assert row["uri"].endswith(f"#bytes=512+{info.size}")


def test_a_server_that_answers_no_ranges_is_refused(file: Path) -> None:
    file.write_bytes(tar_of({"a.jpg": b"one"}))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(file.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(UsageError, match="its server answers no ranges of bytes, by which pictures are read alone"):
            table_rows.check(source_of("tar", f"http://127.0.0.1:{server.server_port}/x.tar"))
        server.shutdown()
        thread.join()
