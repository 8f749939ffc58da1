"""Where the file of a picture is read, also out of a column of parquet; and whose fault it is where it cannot be."""

import errno
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.serving.shop import file_of, picture
from transforms.errors import PixdexError
from transforms.records import EncoderSettings, IndexSettings, Request, Source
from transforms.rejects import Failure
from transforms.serving import pictures
from transforms.serving.faults import NoPictureError, NotReachedError
from transforms.storage import uris
from transforms.storage.outside import Outside
from transforms.storage.uris import ObjectTooLargeError
from transforms.tasks.embed import fetch

FILES: Final = [file_of(picture(seed)) for seed in range(20)]
LIMIT: Final = 1 << 20


def request_of(folder: Path) -> Request:
    source = Source("parquet", f"file://{folder}/*.parquet", image_column="image", image_bytes=True)
    encoder = EncoderSettings("demo", "f" * 64, 2, ("image",))
    return Request((source,), encoder, IndexSettings("Flat", "ip"))


@pytest.mark.parametrize("is_struct", [False, True])
def test_a_picture_in_a_column_of_parquet_is_read_out_of_it(is_struct: bool, tmp_path: Path) -> None:
    column = [{"bytes": file, "path": None} for file in FILES] if is_struct else FILES
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if is_struct else pa.binary()
    pq.write_table(pa.table({"image": pa.array(column, kind)}), tmp_path / "rows.parquet", row_group_size=7)
    request = request_of(tmp_path)
    for row in (0, 6, 7, 19):
        uri = f"file://{tmp_path}/rows.parquet#{row}"
        assert pictures.read(uri, request, Outside.of(request), LIMIT) == FILES[row]
    for row, limit, why in ((20, LIMIT, "no picture in row 20"), (3, 100, "the limit is 100")):
        with pytest.raises(NoPictureError, match=why):
            pictures.read(f"file://{tmp_path}/rows.parquet#{row}", request, Outside.of(request), limit)


def test_parquet_elsewhere_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    pq.write_table(pa.table({"image": FILES}), tmp_path / "rows.parquet")
    request = request_of(tmp_path / "inside")
    with pytest.raises(NoPictureError, match="not among the sources"):
        pictures.read(f"file://{tmp_path}/rows.parquet#0", request, Outside.of(request), LIMIT)


class StoreError(Exception):
    """As clients of object stores have them, of no kind that anybody else knows."""


@pytest.mark.parametrize(
    ("uri", "error", "kind"),
    [
        ("s3://bucket/a.png", FileNotFoundError("a.png"), NoPictureError),
        ("s3://bucket/a.png", ObjectTooLargeError("the object has 2 bytes, the limit is 1"), NoPictureError),
        ("s3://bucket/a.png", PermissionError("The provided token has expired."), NotReachedError),
        ("s3://bucket/a.png", StoreError("Unable to locate credentials"), NotReachedError),
        ("s3://bucket/a.png", OSError("Forbidden"), NotReachedError),
        ("s3://bucket/a.png", ValueError("no JSON of credentials"), NotReachedError),
        ("s3://bucket/a.png", TimeoutError(), NotReachedError),
        ("s3://bucket/a.png", ImportError("install s3fs"), NotReachedError),
        ("file:///pictures/a.png", FileNotFoundError(errno.ENOENT, "there is none"), NoPictureError),
        ("file:///pictures/a.png", OSError("not a regular file"), NoPictureError),
        ("file:///pictures/a.png", OSError(errno.ENAMETOOLONG, "its name is too long"), NoPictureError),
        ("file:///pictures/a.png", ValueError("embedded null byte"), NoPictureError),
        ("file:///pictures/a.png", PermissionError(errno.EACCES, "not allowed"), NotReachedError),
        ("file:///pictures/a.png", OSError(errno.EIO, "the disk"), NotReachedError),
        ("file:///pictures/a.png", OSError(errno.ESTALE, "the mount"), NotReachedError),
        ("file:///pictures/a.png", OSError(errno.EMFILE, "too many open files"), NotReachedError),
    ],
    ids=str,
)
def test_only_what_is_its_own_fault_is_a_picture_that_is_not_there(
    uri: str, error: Exception, kind: type[PixdexError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(uris, "read", fails)
    request = request_of(Path("/pictures"))
    with pytest.raises(PixdexError, match=r"the picture cannot be read") as raised:
        pictures.read(uri, request, Outside(("s3://bucket/", "file:///pictures/")), LIMIT)
    assert type(raised.value) is kind and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure("fetch", "HTTPError", "404 Not Found"), NoPictureError),
        (Failure("fetch", "HTTPError", "403 Forbidden"), NoPictureError),
        (Failure("fetch", "HTMLPage", "the server sent a page of HTML, and no picture"), NoPictureError),
        (Failure("fetch", "HTTPError", "429 Too Many Requests"), NotReachedError),
        (Failure("fetch", "HTTPError", "503 Service Unavailable"), NotReachedError),
        (Failure("fetch", "ConnectionRefusedError", "Connection refused"), NotReachedError),
        (fetch.LATE, NotReachedError),
    ],
    ids=str,
)
def test_a_server_on_the_web_that_does_not_answer_says_nothing_about_a_picture(
    failure: Failure, kind: type[PixdexError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "from_web", lambda *_: failure)
    with pytest.raises(PixdexError, match="cannot be fetched") as raised:
        pictures.read("https://photos.example/a.png", request_of(Path("/x")), Outside((), trusted=True), LIMIT)
    assert type(raised.value) is kind


def test_a_file_of_parquet_that_is_gone_or_damaged_is_its_own_fault(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more of it PAR1")
    request = request_of(tmp_path)
    for name in ("rows", "gone"):
        with pytest.raises(NoPictureError, match="cannot be read"):
            pictures.read(f"file://{tmp_path}/{name}.parquet#0", request, Outside.of(request), LIMIT)
