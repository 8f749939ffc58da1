"""Files of rows of every format: the same items, the same nights, and nothing that a damaged file can do.

Thousands of damaged files of each format instead of hundreds, with

    HYPOTHESIS_PROFILE=thorough python -m pytest tests/transforms/sources/test_row_sources.py
"""

import io
import os
import random
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import gcs, s3
from tests.tiers import mostly_gate
from tests.transforms import nights
from tests.transforms.sources.row_sources import FORMATS, Row, content_of, items_of, source_of, tar_of
from transforms.errors import UsageError
from transforms.records import Changes, EncoderSettings, IndexSettings, Request
from transforms.sources import items, listed, table_rows
from transforms.sources.table_rows import RowListing
from transforms.storage import uris
from transforms.storage.outside import Outside
from transforms.tasks.embed.inside import PicturesInside

COLUMNS = ("sku", "text", "words", "price")
ROWS = [{"sku": f"k{n}", "text": f"red circle {n}", "words": f"red, 한글 {n}", "price": str(n)} for n in range(10)]
DAMAGED = {"ci": 1000, "thorough": 10_000}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 200)


def write(file: Path, form: str, rows: list[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content_of(form, rows, COLUMNS))
    seconds = zlib.crc32(file.read_bytes()) % 1_000_000
    os.utime(file, (seconds, seconds))


@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_the_same_items_whatever_their_format(tmp_path: Path, form: str) -> None:
    file = tmp_path / f"rows.{form}"
    write(file, form, ROWS)
    source = source_of(form, file, text_column="text", keyword_column="words", key_column="sku")
    table_rows.check(source)
    found = items_of(source)
    assert [{name: row[name] for name in COLUMNS} for row in found] == ROWS
    assert [row["key"] for row in found] == [f"file://{file}#k{n}" for n in range(10)]
    assert [(row[items.TEXT], row[items.KEYWORDS], row["uri"]) for row in found[:1]] == [
        ("red circle 0", ["red", "한글 0"], f"file://{file}")
    ]
    assert all(row[items.PROBLEM] is None and row[items.ROWS] == 3 for row in found)


@pytest.mark.parametrize("form", FORMATS)
def test_a_night_finds_new_changed_and_gone_rows_and_leaves_what_is_unchanged(tmp_path: Path, form: str) -> None:
    data, root = tmp_path / "data", tmp_path / "root"
    for name in ("a/one", "a/b/two", "three"):
        write(data / f"{name}.{form}", form, ROWS)
    source = source_of(form, f"{data}/{{a/**/*,three}}.{form}", text_column="text", key_column="sku")
    nights.publish(root, (source,), lambda key: False)

    assert nights.plan(nights.begin_night(root)).changes == Changes(0, 0, 0, 30, 0, 0)
    write(data / f"a/one.{form}", form, [*ROWS[2:], {**ROWS[1], "text": "another"}, {**ROWS[0], "sku": "new"}])
    (data / f"three.{form}").unlink()
    write(data / f"a/b/c/four.{form}", form, ROWS[:3])
    with pytest.raises(UsageError, match=rf"--{source.kind} .* lost 11 of the 30 items"):
        nights.plan(nights.begin_night(root), 0.2)
    assert nights.plan(nights.begin_night(root)).changes == Changes(4, 1, 11, 18, 0, 0)


def test_parquet_with_its_pictures_in_it_is_not_opened_while_it_is_the_same(tmp_path: Path) -> None:
    def write_pictures(name: str, *pictures: bytes | None) -> None:
        keys = [f"k{number}" for number in range(len(pictures))]
        pq.write_table(pa.table({"image": pa.array(pictures, pa.binary()), "sku": keys}), tmp_path / f"{name}.parquet")

    for name in ("one", "two#3"):
        write_pictures(name, b"a", b"b", b"c")
    pattern = f"{tmp_path}/*.parquet"
    source = table_rows.of_what_is_there(source_of("parquet", pattern, image_column="image", key_column="sku"))
    nights.publish(tmp_path / "root", (source,), lambda key: False)
    assert nights.plan(nights.begin_night(tmp_path / "root")).changes == Changes(0, 0, 0, 6, 0, 0)
    write_pictures("one", b"a", b"other")
    assert nights.plan(nights.begin_night(tmp_path / "root")).changes == Changes(0, 1, 1, 4, 0, 0)


def test_tars_are_not_opened_while_they_are_the_same_and_a_picture_that_moves_is_told(tmp_path: Path) -> None:
    def write_tar(name: str, **pictures: bytes) -> None:
        file = tmp_path / f"{name}.tar"
        file.write_bytes(tar_of({f"{stem}.jpg": data for stem, data in pictures.items()}))
        seconds = zlib.crc32(file.read_bytes()) % 1_000_000
        os.utime(file, (seconds, seconds))

    for name in ("one", "two#bytes=512+3"):
        write_tar(name, a=b"a", b=b"b", c=b"c")
    source = source_of("tar", f"{tmp_path}/*.tar")
    nights.publish(tmp_path / "root", (source,), lambda key: False)
    assert nights.plan(nights.begin_night(tmp_path / "root")).changes == Changes(0, 0, 0, 6, 0, 0)
    file, before = tmp_path / "one.tar", (tmp_path / "one.tar").stat()
    file.write_bytes(b"\xff" * before.st_size)  # reading it would end the night
    os.utime(file, (before.st_mtime, before.st_mtime))
    assert nights.plan(nights.begin_night(tmp_path / "root")).changes == Changes(0, 0, 0, 6, 0, 0)
    write_tar("one", new=b"n", a=b"other", c=b"c")  # there c begins where it began
    assert nights.plan(nights.begin_night(tmp_path / "root")).changes == Changes(1, 1, 1, 4, 0, 0)
    write_tar("one", c=b"c", a=b"a", b=b"b")
    assert nights.plan(nights.begin_night(tmp_path / "root")).changes == Changes(0, 3, 0, 3, 0, 0, carried=3)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_two_globs_mean_is_one_and_a_name_with_braces_is_a_name(tmp_path: Path, form: str) -> None:
    write(tmp_path / f"{{a,b}}.{form}", form, ROWS[:3])
    write(tmp_path / f"a.{form}", form, ROWS[3:5])
    named = source_of(form, f"{tmp_path}/{{a,b}}.{form}", text_column="text", key_column="sku")
    assert len(items_of(named)) == 3
    other = source_of(form, f"{tmp_path}/a*.{form}", text_column="text", key_column="sku")
    everything = source_of(form, f"{tmp_path}/*.{form}", text_column="text", key_column="sku")
    nights.publish(tmp_path / "root", (other, everything), lambda key: False)
    assert nights.plan(nights.begin_night(tmp_path / "root")).changes == Changes(0, 0, 0, 5, 0, 0)


@contextmanager
def bucket_in(place: str) -> Iterator[str]:
    if place == "memory":
        yield f"memory://{uuid.uuid4().hex}"
        return
    server = s3 if place == "s3" else gcs
    with server.serving() as address, server.bucket_of(address) as bucket:
        yield bucket


@pytest.mark.parametrize("place", mostly_gate(["memory", "s3", "gs"], quick=["memory"]))
def test_files_of_every_format_lie_on_object_stores(place: str) -> None:
    with bucket_in(place) as bucket:
        filesystem, _ = uris.filesystem_of(f"{bucket}/x")
        for form in FORMATS:
            content = content_of(form, ROWS, COLUMNS)
            for folder in ("a", "b/c", "d"):
                filesystem.pipe_file(uris.filesystem_of(f"{bucket}/{form}/{folder}/rows.{form}")[1], content)
            source = source_of(form, f"{bucket}/{form}/{{a,b/**}}/*.{form}", text_column="text", key_column="sku")
            table_rows.check(source)
            assert len(items_of(source)) == 20
            listing = table_rows.RowListing(source)
            assert len({listing.version(name) for name in listing.containers()}) >= 1
        out = io.BytesIO()
        pq.write_table(pa.table({"image": [b"one", b"two"]}), out)
        filesystem.pipe_file(uris.filesystem_of(f"{bucket}/p.parquet")[1], out.getvalue())
        source = source_of("parquet", f"{bucket}/p.parquet", image_column="image")
        found = items_of(table_rows.of_what_is_there(source))
        inside = PicturesInside({row["uri"]: row[items.INSIDE] for row in found})
        located = [inside.locate(row["uri"], 100) for row in found]
        assert [one and one.read() for one in located] == [b"one", b"two"]
        content = tar_of({"a.jpg": b"one", "a.txt": b"words", "b.png": b"x" * 9_000_000})
        filesystem.pipe_file(uris.filesystem_of(f"{bucket}/t.tar")[1], content)
        found = items_of(source_of("tar", f"{bucket}/t.tar"))
        inside = PicturesInside({row["uri"]: row[items.INSIDE] for row in found})
        located = [inside.locate(row["uri"], 9_000_000) for row in found]
        assert [one and one.read() for one in located] == [b"one", b"x" * 9_000_000]
        assert [uris.read(row["uri"]) for row in found] == [b"one", b"x" * 9_000_000]
        assert [len(b"".join(uris.locate(row["uri"]).pieces())) for row in found] == [3, 9_000_000]


@pytest.mark.parametrize("form", FORMATS)
def test_a_range_of_numbers_means_those_of_its_files_that_are_there(tmp_path: Path, form: str) -> None:
    (tmp_path / "a").mkdir()
    for name in ("007", "008", "010", "10", "011", "012", "x08"):
        write(tmp_path / "a" / f"{name}.{form}", form, ROWS[:1])
    source = source_of(form, f"{tmp_path}/{{a,b}}/{{008..011}}.{form}", text_column="text")
    names = [uri.rpartition("/")[2].partition(".")[0] for uri in RowListing(source).containers()]
    assert names == ["008", "010", "011"]
    (one, *_), outside = (
        RowListing(source).containers(),
        Outside.of(Request((source,), EncoderSettings("demo", "", 2, ()), IndexSettings())),
    )
    assert outside.holds(one) and not outside.holds(f"file://{tmp_path}/other/008.{form}")
    assert (
        listed.file_of(source, f"{one}#7") == one and listed.file_of(source, f"file://{tmp_path}/a/10.{form}#7") is None
    )
    with pytest.raises(UsageError, match="matches no file"):
        table_rows.check(source_of(form, f"{tmp_path}/a/{{20..30}}.{form}", text_column="text"))


@pytest.mark.parametrize("form", FORMATS)
def test_what_cannot_be_found_is_refused_by_its_flag(tmp_path: Path, form: str) -> None:
    for pattern in (f"{tmp_path}/gone.{form}", f"{tmp_path}/*.{form}"):
        with pytest.raises(UsageError, match=rf"--{source_of(form, pattern).kind} file://.*(No such file|matches no)"):
            table_rows.check(source_of(form, pattern, text_column="text"))
    write(tmp_path / f"a.{form}", form, ROWS)
    with pytest.raises(
        UsageError, match=r"--text-column title: .* has no column title; it has sku, text, words, price"
    ):
        table_rows.check(source_of(form, tmp_path / f"a.{form}", text_column="title"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_file_is_refused_or_each_of_its_rows_is_an_item_or_a_reject(tmp_path: Path, form: str) -> None:
    whole, file = content_of(form, ROWS, COLUMNS), tmp_path / f"rows.{form}"
    source = source_of(form, file, text_column="text", keyword_column="words", key_column="sku")
    outcomes = {"refused": 0, "read": 0}
    for seed in range(DAMAGED):
        choose, damaged = random.Random(seed), bytearray(whole)
        for _ in range(choose.choice([1, 1, 2, 5])):
            place = choose.randrange(len(damaged) or 1)
            match choose.randrange(4):
                case 0:
                    damaged[place : place + 1] = bytes([choose.randrange(256)])
                case 1:
                    del damaged[place : place + choose.randrange(1, 9)]
                case 2:
                    damaged[place:place] = choose.choice(
                        [b'"', b"\n", b"{", b"\\ud800", b"\0", b"\xff", b",", b"1e999"]
                    )
                case _:
                    del damaged[place:]
        file.write_bytes(damaged)
        try:
            table_rows.check(source)
            found = items_of(source)
        except UsageError as error:
            assert "\n" not in str(error), str(error)
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        for row in found:
            assert (row[items.PROBLEM] is None) == (row[items.ROWS] > 0)
        if form == "tar":  # whose headers have checksums
            assert len(found) == len(ROWS)
        if form in ("csv", "jsonl"):
            assert len(found) <= damaged.count(b"\n") + damaged.count(b"\r") + 1
    assert outcomes["refused"] > 0


def test_all_of_several_batches_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.sources.parquet_file.ROWS_AT_ONCE", 2)
    write(tmp_path / "rows.parquet", "parquet", ROWS)
    found = items_of(source_of("parquet", tmp_path / "rows.parquet", text_column="text"))
    assert [(row["sku"], row[items.LINE]) for row in found] == [(f"k{n}", n + 1) for n in range(10)]
