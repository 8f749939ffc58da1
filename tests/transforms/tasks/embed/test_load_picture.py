"""A picture at fault is a failure of its own; a machine at fault stops the work."""

import errno
import io
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import PIL.Image
import pytest
from fsspec.spec import AbstractFileSystem

from tests.encoders import TinyEncoder
from tests.transforms.embedded import SETTINGS
from transforms.errors import PixdexError
from transforms.pictures import decode as images
from transforms.rejects import Failure
from transforms.storage import uris
from transforms.tasks.embed import fetch
from transforms.tasks.embed.limits import ItemLimits
from transforms.tasks.embed.load_picture import GivenUpError, Progress, Way, load_picture, target_side
from transforms.web import faults


class Shaky(AbstractFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """A remote store of one picture that fails before it answers."""

    protocol = "shaky"
    failures: list[Exception] = []  # noqa: RUF012 - fsspec makes one filesystem of its class, and keeps it
    asked = 0

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": len(picture()), "type": "file"}

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        Shaky.asked += 1
        if Shaky.failures:
            raise Shaky.failures.pop(0)
        return picture()


class StatusError(Exception):
    """As HTTP clients raise it: no OSError, with the status beside the message."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} from the server")
        self.status = status


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> type[Shaky]:
    fsspec.register_implementation("shaky", Shaky, clobber=True)
    monkeypatch.setattr(fetch, "RETRY_AFTER", (0, 0))
    Shaky.failures, Shaky.asked = [], 0
    return Shaky


def picture() -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (10, 12), "red").save(file, "PNG")
    return file.getvalue()


def load(uri: str) -> Any:
    limits = ItemLimits(file_bytes=1 << 20, named=frozenset({"127.0.0.1"}))
    return load_picture(uri, Way(TinyEncoder(), "crop", 8, SETTINGS.pixel_limit, limits), Progress())


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def locate(uri: str) -> uris.Located:
        raise error

    monkeypatch.setattr(uris, "locate", locate)


# --- the object or its storage ---


def test_a_picture_becomes_what_the_encoder_takes_and_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    pixels, size = load(f"file://{tmp_path}/a.png")

    assert (pixels.shape, size) == ((3, 8, 8), (10, 12))


def test_the_side_that_an_encoder_sees_is_that_of_its_square() -> None:
    assert target_side(TinyEncoder()) == 8


@pytest.mark.parametrize(
    "error", [TimeoutError("slow"), OSError(errno.EIO, "?"), ConnectionResetError("gone"), StatusError(503)]
)
def test_a_remote_store_that_fails_twice_loses_nothing(shaky: type[Shaky], error: Exception) -> None:
    shaky.failures = [error, error]

    assert not isinstance(load("shaky://a.png"), Failure)
    assert shaky.asked == 3


def test_a_remote_store_that_goes_on_failing_is_given_up(shaky: type[Shaky]) -> None:
    shaky.failures = [TimeoutError("slow")] * 9

    assert load("shaky://a.png") == Failure("fetch", "TimeoutError", "slow")
    assert shaky.asked == 3


@pytest.mark.parametrize("error", [FileNotFoundError("none"), PermissionError("no"), StatusError(410)])
def test_what_another_try_cannot_change_is_asked_for_once(shaky: type[Shaky], error: Exception) -> None:
    shaky.failures = [error]

    assert load("shaky://a.png") == Failure("fetch", type(error).__name__, str(error))
    assert shaky.asked == 1


def test_a_local_file_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RETRY_AFTER", (3600,))

    assert load(f"file://{tmp_path}/none.png").type == "FileNotFoundError"
    assert load(f"file://{tmp_path}").message == "not a regular file"


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [503, 503]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = answers.pop(0) if answers else 200
            body = picture() if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name that the library calls

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(faults, "FIRST_PAUSE", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            _, size = load(f"http://127.0.0.1:{server.server_port}/a.png")
        finally:
            server.shutdown()
    assert size == (10, 12)
    assert not answers


# --- the machine ---


@pytest.mark.parametrize("uri", ["file:///a.png", "s3://bucket/a.png"])
@pytest.mark.parametrize(
    "error", [*(OSError(n, os.strerror(n)) for n in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)), MemoryError()]
)
def test_a_machine_that_is_at_its_limits_blames_no_picture(
    monkeypatch: pytest.MonkeyPatch, error: Exception, uri: str
) -> None:
    failing(monkeypatch, error)
    with pytest.raises(PixdexError, match=rf"{uri} cannot be fetched on this machine \({type(error).__name__}.*again"):
        load(uri)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_a_disk_that_fails_blames_no_picture(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    failing(monkeypatch, OSError(number, os.strerror(number)))
    with pytest.raises(PixdexError, match=os.strerror(number)):
        load("file:///a.png")


@pytest.mark.parametrize("error", [MemoryError(), PIL.Image.DecompressionBombError("huge")])
def test_a_picture_of_absurd_size_is_at_fault_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def decode(*_: Any, **__: Any) -> PIL.Image.Image:
        raise error

    (tmp_path / "a.png").write_bytes(picture())
    monkeypatch.setattr(images, "decode", decode)

    found = load(f"file://{tmp_path}/a.png")
    assert (found.stage, found.type) == ("decode", type(error).__name__)


# --- who waits for it ---


def test_a_picture_that_is_done_holds_no_file_and_cannot_be_given_up() -> None:
    progress = Progress()
    progress.begin(b"the file")
    progress.end()

    assert not progress.give_up()
    assert progress.data is None


def test_a_picture_that_is_given_up_leaves_its_file_for_a_last_try_and_ends_its_thread() -> None:
    progress = Progress()
    progress.begin(b"the file")

    assert not progress.give_up(seconds=3600)
    assert progress.give_up()
    assert not progress.give_up()
    with pytest.raises(GivenUpError):
        progress.pause()
    progress.end()
    assert progress.data == b"the file"


def test_waiting_for_memory_is_no_time_of_the_picture() -> None:
    progress = Progress()
    progress.begin()
    progress.pause()

    assert not progress.give_up()
