"""Pictures of a page: foreign ones cost a placeholder, and neither the process that asks nor its time."""

import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import deadly
from tests.corpora import write_pictures
from transforms.records import EncoderSettings, IndexSettings, Request, Source
from transforms.report import thumbnails
from transforms.report.thumbnails import Thumbnail, thumbnails_of
from transforms.tasks.embed import item_picture


def request_of(*sources: Source) -> Request:
    return Request(sources, EncoderSettings("demo", "f" * 64, 2, ("image",)), IndexSettings("Flat", "ip"))


def pictures_in(folder: Path) -> Request:
    return request_of(Source("images", f"file://{folder}"))


def test_pictures_that_end_or_keep_their_decoder_are_placeholders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly.arm(monkeypatch)
    monkeypatch.setattr(thumbnails, "_DECODE_SECONDS", 1.0)
    files = write_pictures(tmp_path, 6)
    files[1].write_bytes(deadly.picture("abort"))
    files[3].write_bytes(deadly.picture("sleep"))
    files[4].write_bytes(b"no picture")
    made = thumbnails_of([file.as_uri() for file in files], pictures_in(tmp_path))
    assert [made[file.as_uri()].url is not None for file in files] == [True, False, True, False, False, True]
    assert all(one.content for one in made.values())


def test_a_storage_that_never_answers_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_SECONDS", 4.0)
    files, ever, read = write_pictures(tmp_path, 6), threading.Event(), item_picture.read

    def slow(uri: str, *told: object, **more: object) -> bytes:
        if uri == files[2].as_uri():
            ever.wait(60)
        return read(uri, *told, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(item_picture, "read", slow)
    began = time.monotonic()
    made = thumbnails_of([file.as_uri() for file in files], pictures_in(tmp_path))
    ever.set()
    assert time.monotonic() - began < 20
    assert made[files[2].as_uri()] == Thumbnail()
    assert sum(one.url is not None for one in made.values()) == 5


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = write_pictures(tmp_path, 1)
    monkeypatch.setattr(thumbnails, "_BYTES", file.stat().st_size - 1)
    assert thumbnails_of([file.as_uri()], pictures_in(tmp_path)) == {file.as_uri(): Thumbnail()}


def test_what_stands_far_behind_in_parquet_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_pictures(tmp_path, 40)
    table = pa.table({"image": [file.read_bytes() for file in files]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=20)
    source = Source("parquet", f"file://{tmp_path}/rows.parquet", image_column="image", image_bytes=True)
    uris = [f"file://{tmp_path}/rows.parquet#{row}" for row in (0, 3, 19, 21, 39)]
    monkeypatch.setattr(thumbnails, "_BYTES_BEFORE", 6 * files[0].stat().st_size)
    made = thumbnails_of(uris, request_of(source))
    assert [made[uri].url is not None for uri in uris] == [True, True, False, True, False]


def test_no_process_is_started_where_no_picture_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "Decoders", lambda _: pytest.fail("processes are made"))
    assert thumbnails_of([], request_of()) == {}
