"""Pictures of items: decoded and made anew, whatever a foreign file says, and read only where they may be."""

import io
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import PIL.Image
import pytest

from tests.roots import Row, make_root, unit
from tests.transforms.serving.server import Server, serving, wait_for
from tests.transforms.serving.shop import file_of, picture
from transforms.serving.limits import Limits
from transforms.serving.opened import How
from transforms.storage import uris
from transforms.storage.store import Store

NAMES = ("first", "second", "third", "fourth")


def rows(folder: Path) -> list[Row]:
    return [
        Row(name, unit(20 * place), uri=f"file://{folder}/site/pictures/{name}.png") for place, name in enumerate(NAMES)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root without an encoder of its own that is trusted, and its pictures."""
    make_root(tmp_path / "site", rows(tmp_path))
    (tmp_path / "site" / "pictures").mkdir()
    for seed, name in enumerate(NAMES):
        picture(seed).save(tmp_path / "site" / "pictures" / f"{name}.png")
    return tmp_path


def shown(server: Server, place: int, size: int = 320) -> PIL.Image.Image:
    reply = server.get(f"/api/items/{place}/picture?size={size}")
    assert reply.status == 200, reply.body
    return PIL.Image.open(io.BytesIO(reply.body))


def serving_of(folder: Path, limits: Limits | None = None) -> AbstractContextManager[Server]:
    return serving(folder / "site", limits, how=How(Store.at(str(folder / "site"))))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "UnidentifiedImageError"),
        (b"<html><script>alert(1)</script></html>", "UnidentifiedImageError"),
        (file_of(picture(0))[:100], "cannot be read"),
        (b"", "cannot be read"),
        (None, "FileNotFoundError"),
    ],
)
def test_what_is_no_picture_is_not_found_with_a_reason(content: bytes | None, why: str, folder: Path) -> None:
    file = folder / "site" / "pictures" / "second.png"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with serving_of(folder) as server:
        reply = server.get("/api/items/1/picture")
        assert reply.status == 404 and why in reply.json["error"]
        assert reply.headers["content-type"] == "application/json"
        shown(server, 0)


def test_nothing_but_the_picture_reaches_a_browser(folder: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "<script>alert('exif')</script>"  # turned, and described
    PIL.Image.new("RGB", (64, 48), "red").save(folder / "site" / "pictures" / "first.png", "JPEG", exif=exif)
    with serving_of(folder) as server:
        reply = server.get("/api/items/0/picture")
        assert b"script" not in reply.body and reply.headers["content-type"] in ("image/jpeg", "image/png")
        assert PIL.Image.open(io.BytesIO(reply.body)).size == (48, 64)


@pytest.mark.parametrize("sides", [(4000, 20), (20, 4000), (1, 1), (300, 300)])
def test_a_picture_is_shown_whole(sides: tuple[int, int], folder: Path) -> None:
    PIL.Image.new("RGB", sides, "blue").save(folder / "site" / "pictures" / "first.png")
    with serving_of(folder) as server:
        small = shown(server, 0, 100)
        assert max(small.size) == min(100, max(sides))
        assert small.width == small.height if sides[0] == sides[1] else small.width != small.height
        red, green, blue = small.convert("RGB").getpixel((0, 0))  # type: ignore[misc]  # of RGB, three numbers
        assert red < 20 and green < 20 and blue > 235


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file:///etc/hostname", "not among the sources"),
        ("file://{folder}/site/pictures/../../secret.png", "not among the sources"),
        ("http://127.0.0.1:9/a.png", "an address of this machine"),
        ("http://169.254.169.254/latest", "an address of this machine"),
        ("ftp://127.0.0.1/a.png", "not among the sources"),
    ],
)
def test_a_root_of_a_stranger_has_nothing_read_elsewhere(uri: str, said: str, tmp_path: Path) -> None:
    picture(0).save(tmp_path / "secret.png")
    make_root(tmp_path / "site", [Row("a", (1.0, 0.0), uri=uri.format(folder=tmp_path))])
    with serving_of(tmp_path) as server:
        reply = server.get("/api/items/0/picture")
        assert reply.status == 404 and said in reply.json["error"]


def test_whoever_trusts_the_root_has_it_read(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "elsewhere.png")
    make_root(tmp_path / "site", [Row("a", (1.0, 0.0), uri=f"file://{tmp_path}/elsewhere.png")])
    with serving(tmp_path / "site", how=How(Store.at(str(tmp_path / "site")), trust_uris=True)) as server:
        assert shown(server, 0).size == (64, 48)


@pytest.mark.parametrize("path", ["a.png", "gone.png"])
def test_a_picture_on_the_web_is_fetched_once_the_root_is_trusted(path: str, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    picture(0).save(tmp_path / "web" / "a.png")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            make_root(tmp_path / "site", [Row("a", (1.0, 0.0), uri=f"http://127.0.0.1:{web.server_port}/{path}")])
            with serving(tmp_path / "site", how=How(Store.at(str(tmp_path / "site")), trust_uris=True)) as server:
                if path == "a.png":
                    assert shown(server, 0).size == (64, 48)
                else:
                    assert "HTTPError" in server.get("/api/items/0/picture").json["error"]
        finally:
            web.shutdown()
            thread.join()


def test_a_row_of_a_file_has_no_picture(tmp_path: Path) -> None:
    row = Row("file:///rows.csv#1", (1.0, 0.0), "text", caption="words", uri="file:///rows.csv")
    make_root(tmp_path / "site", [row])
    with serving_of(tmp_path) as server:
        assert "names no picture" in server.get("/api/items/0/picture").json["error"]


def test_a_root_whose_encoder_nobody_trusts_answers_vectors_and_pictures(folder: Path) -> None:
    make_root(folder / "other", rows(folder), spec="stranger:Class")
    with serving(folder / "other", how=How(Store.at(str(folder / "other")))) as server:
        assert server.get("/api/about").json["takes"] == []
        assert [hit["key"] for hit in server.found(vector=unit(19), k=1)] == ["second"]
        reply = server.search(text="a")
        assert reply.status == 400 and "whose module would be run" in reply.json["error"]


def test_thumbnails_are_kept_within_a_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    read: Callable[..., bytes] = uris.read

    def counted(uri: str, limit: int) -> bytes:
        made.append(uri)
        return read(uri, limit)

    monkeypatch.setattr(uris, "read", counted)
    with serving_of(folder) as server:
        for _ in range(3):
            shown(server, 0)
        assert len(made) == 1
    with serving_of(folder, Limits(kept_bytes=1)) as server:
        for _ in range(3):
            shown(server, 0)
        assert len(made) == 4
        wait_for(lambda: server.get("/healthz").status == 200)


def test_a_picture_that_cannot_be_read_now_is_asked_for_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = uris.read

    def expired(*_: object) -> bytes:
        raise PermissionError("The provided token has expired.")

    with serving_of(folder) as server:
        monkeypatch.setattr(uris, "read", expired)
        reply = server.get("/api/items/0/picture")
        assert reply.status == 502 and "The provided token has expired." in reply.json["error"]
        assert reply.headers["cache-control"] == "no-store"
        monkeypatch.setattr(uris, "read", read)
        shown(server, 0)


def test_a_file_that_is_replaced_or_comes_back_is_shown_as_it_is_now(folder: Path) -> None:
    file = folder / "site" / "pictures" / "first.png"
    with serving_of(folder) as server:
        before = server.get("/api/items/0/picture")
        picture(9).save(file.with_name("new"), "png")
        file.with_name("new").replace(file)
        after = server.get("/api/items/0/picture", {"if-none-match": before.headers["etag"]})
        assert after.status == 200 and after.body != before.body
        assert server.get("/api/items/0/picture").body == after.body
        file.unlink()
        assert server.get("/api/items/0/picture").status == 404
        picture(0).save(file)
        assert server.get("/api/items/0/picture").body == before.body
