"""A URI opens as it is spelled."""

import dataclasses
import os
import socket
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from transforms.storage import uris

COMPOSED = unicodedata.normalize("NFC", "한글")
DECOMPOSED = unicodedata.normalize("NFD", "한글")

ODD_NAMES = [
    "a#b.png", "100%.png", "100%25.png", "what?.png", "a b.png", " lead.png", "a::b.png", "a[1].png", "a\nb.png",
    "https:", "*.png", "~.png", "'\".png", "&amp;.png",
]  # fmt: skip


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/data/a.png", "file:///data/a.png"),
        ("/data/../x//a.png", "file:///x/a.png"),
        ("/data/pictures/", "file:///data/pictures/"),
        ("/", "file:///"),
        ("a/*.png", "file:///here/a/*.png"),
        ("~/a.png", "file:///houses/me/a.png"),
        ("s3://bucket/a//b.png", "s3://bucket/a//b.png"),
        ("https://host/a?b#c", "https://host/a?b#c"),
        ("/a b#c?d%20.png", "file:///a b#c?d%20.png"),
    ],
)
def test_a_location_is_made_absolute_and_else_left_alone(
    monkeypatch: pytest.MonkeyPatch, location: str, url: str
) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: "/here")
    monkeypatch.setenv("HOME", "/houses/me")

    assert uris.absolute(location) == url


@pytest.mark.parametrize("prefix", ["/data/", "file:///data/"])
def test_bytes_that_are_no_text_are_percent_encoded(prefix: str) -> None:
    assert uris.absolute(prefix + os.fsdecode(b"b\xff.png")) == "file:///data/b%FF.png"


@pytest.mark.parametrize(
    ("base", "reference", "uri"),
    [
        ("file:///d/rows.csv", "a.png", "file:///d/a.png"),
        ("file:///d/rows.csv", "./i/../a b#1.png", "file:///d/a b#1.png"),
        ("file:///d/rows.csv", "../a.png", "file:///a.png"),
        ("file:///rows.csv", "a.png", "file:///a.png"),
        ("file:///d/rows.csv", "/x/a.png", "file:///x/a.png"),
        ("file:///d/rows.csv", "https://host/a.png?w=1", "https://host/a.png?w=1"),
        ("s3://bucket/d/rows.csv", "a.png", "s3://bucket/d/a.png"),
        ("s3://bucket/rows.csv", "i/a.png", "s3://bucket/i/a.png"),
        ("memory:///d/rows.csv", "a.png", "memory:///d/a.png"),
    ],
)
def test_a_reference_is_read_from_where_the_csv_lies(base: str, reference: str, uri: str) -> None:
    assert uris.join(base, reference) == uri


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_opens_as_it_is_spelled(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")

    assert uris.read(uris.absolute(str(tmp_path / name))) == b"content"
    assert uris.read(uris.join(f"file://{tmp_path}/rows.csv", f"./{name}")) == b"content"


@pytest.mark.parametrize("name", ["a#b.png", "a b.png", "a::b.png", "한글.png", "100%25.png"])
def test_an_odd_name_of_an_object_store_opens_as_it_is_spelled(name: str) -> None:
    fsspec.filesystem("memory").pipe_file(f"/odd/{name}", b"content")

    assert uris.read(f"memory:///odd/{name}") == b"content"


@pytest.mark.parametrize(("stored", "asked"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_korean_name_opens_in_either_form(tmp_path: Path, stored: str, asked: str) -> None:
    (tmp_path / f"{stored}.png").write_bytes(b"content")
    uri = f"file://{tmp_path}/{asked}.png"

    assert uris.read(uri) == b"content"


def test_every_folder_of_a_path_may_be_spelled_in_its_own_form(tmp_path: Path) -> None:
    folder = tmp_path / COMPOSED / DECOMPOSED
    folder.mkdir(parents=True)
    (folder / f"{DECOMPOSED}.png").write_bytes(b"content")

    assert uris.read(f"file://{tmp_path}/{COMPOSED}/{COMPOSED}/{COMPOSED}.png") == b"content"
    assert uris.read(f"file://{tmp_path}/{DECOMPOSED}/{DECOMPOSED}/{DECOMPOSED}.png") == b"content"


@pytest.mark.parametrize("name", [b"b\xff.png", b"100%25\xff.png", b"\xc7\xd1\xb1\xdb.png", b"50%\xfe \xff.png"])
def test_a_name_that_is_no_text_opens_by_its_encoded_uri(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"content")
    uri = uris.from_path("file", str(path))

    uri.encode()
    assert uris.read(uri) == b"content"


def test_a_file_named_like_an_encoded_one_is_taken_literally(tmp_path: Path) -> None:
    (tmp_path / "b%FF.png").write_bytes(b"literal")
    (tmp_path / os.fsdecode(b"b\xff.png")).write_bytes(b"encoded")

    assert uris.read(f"file://{tmp_path}/b%FF.png") == b"literal"


def test_a_name_spelled_as_in_a_browser_opens(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"content")

    assert uris.read(f"file://{tmp_path}/a%20b.png") == b"content"


@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_name_has_a_uri_that_a_table_can_hold(name: bytes) -> None:
    uri = uris.from_path("file", "/d/" + os.fsdecode(name))

    assert pa.array([uri])[0].as_py() == uri


def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")

    with pytest.raises(OSError, match="not a regular file"):
        uris.read(f"file://{tmp_path}/pipe.png")


def test_a_socket_a_device_and_a_folder_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        for path in (tmp_path / "s", Path("/dev/zero"), tmp_path):
            with pytest.raises(OSError, match="not a regular file"):
                uris.read(f"file://{path}")


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc")
def test_what_a_kernel_only_calls_a_regular_file_is_refused_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("/proc/self/status")
    (tmp_path / "folder").symlink_to("/proc/self")

    for path in ("/proc/kmsg", "/proc/self/status", f"{tmp_path}/link.png", f"{tmp_path}/folder/status"):
        with pytest.raises(OSError, match="not a regular file"):
            uris.read(f"file://{path}")


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm")
def test_files_in_shared_memory_and_behind_links_of_the_kernel_are_read(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "a.png").write_bytes(b"content")
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as shared, (tmp_path / "proc" / "a.png").open("rb") as opened:
        shared.write(b"content")
        shared.flush()

        for path in (shared.name, f"{tmp_path}/proc/a.png", f"/proc/self/fd/{opened.fileno()}"):
            assert uris.read(f"file://{path}") == b"content"


def test_a_missing_file_and_a_dangling_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("nowhere.png")

    for name in ("link.png", "gone.png"):
        with pytest.raises(FileNotFoundError):
            uris.read(f"file://{tmp_path}/{name}")


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_a_huge_object_is_refused_before_it_is_read(tmp_path: Path, protocol: str) -> None:
    path = f"{tmp_path}/huge.bin"
    fsspec.filesystem(protocol, auto_mkdir=True).pipe_file(path, b"123456")

    with pytest.raises(uris.ObjectTooLargeError, match="6 bytes, the limit is 5"):
        uris.read(f"{protocol}://{path}", limit=5)


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_what_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"123")
    located = uris.locate(f"file://{file}")
    file.write_bytes(b"123456")

    with pytest.raises(OSError, match="grew while it was read"):
        located.read()


def test_an_object_whose_storage_does_not_say_its_size_is_read_up_to_the_limit() -> None:
    class Silent(MemoryFileSystem):  # type: ignore[misc]  # fsspec is untyped
        protocol = "silent"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.removeprefix("silent://")

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "type": "file"}

        def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
            raise AssertionError("it may have any size")

    fsspec.register_implementation("silent", Silent, clobber=True)
    Silent().pipe_file("/a.bin", b"123456")

    assert uris.read("silent:///a.bin", limit=6) == b"123456"
    with pytest.raises(uris.ObjectTooLargeError, match="more than 5 bytes"):
        uris.read("silent:///a.bin", limit=5)


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_a_large_object_comes_in_pieces(tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uris, "_PIECE_BYTES", 4)
    path = f"{tmp_path}/large.bin"
    fsspec.filesystem(protocol, auto_mkdir=True).pipe_file(path, b"1234567890")
    located = uris.locate(f"{protocol}://{path}")

    assert list(located.pieces()) == [b"1234", b"5678", b"90"]
    for limit, one in ((9, located), (7, dataclasses.replace(located, size=None))):
        with pytest.raises(uris.ObjectTooLargeError):
            list(one.pieces(limit))


def test_a_version_is_the_etag_where_there_is_one() -> None:
    assert uris.version({"size": 3, "mtime": 1.5, "ETag": '"abc"'}) == "etag:abc"
    assert uris.version({"size": 3, "etag": "abc"}) == "etag:abc"


def test_a_version_is_else_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    filesystem = fsspec.filesystem("file")
    before = uris.version(filesystem.info(str(file)))

    assert uris.version(filesystem.info(str(file))) == before
    assert uris.version(filesystem.ls(str(tmp_path), detail=True)[0]) == before
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
    assert uris.version(filesystem.info(str(file))) != before


@pytest.mark.parametrize("uri", ["nonsense://a/b.png", "no url"])
def test_an_unknown_protocol_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"nonsense|no URL"):
        uris.read(uri)


@pytest.mark.parametrize(
    "uri", ["gs:///x.png", "s3:///x", "http:///x", "https:///", "gs://", "http://:80/x", "http://user@/x", "s3a:///b/c"]
)
def test_a_uri_without_a_bucket_or_host_is_refused_at_once(uri: str) -> None:
    with pytest.raises(ValueError, match=r"names no bucket or host: write [a-z0-9]+://NAME/…"):
        uris.filesystem_of(uri)
    with pytest.raises(ValueError, match="names no bucket or host"):
        uris.read(uri)


@pytest.mark.parametrize("uri", ["memory:///x", "file:///x", "http://[::1]:80/x", "http://a:b@host:1/x"])
def test_a_uri_that_needs_no_host_or_has_one_is_opened(uri: str) -> None:
    assert uris.filesystem_of(uri)[1].endswith("/x")
