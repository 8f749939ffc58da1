"""Which requests are let in, and what browsers are told of every answer."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.transforms.serving.server import JSON, Server, serving
from tests.transforms.serving.shop import base64_of, file_of, picture
from transforms.serving import doors, listen
from transforms.serving.limits import Limits

QUESTION = json.dumps({"text": "a"}).encode()
MIB = 1 << 20


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "10.0.0.1", "127.0.0.1.evil.example", "", "[::"])
def test_another_host_is_not_answered_where_only_this_machine_listens(host: str, server: Server) -> None:
    for method, path, body in (("GET", "/", None), ("GET", "/api/about", None), ("POST", "/api/search", QUESTION)):
        reply = server.ask(method, path, body, {"host": host, **JSON})
        assert reply.status in (400, 403) and b"pixdex</title>" not in reply.body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1", "[::1]:8765"])
def test_this_machine_has_several_names(host: str, server: Server) -> None:
    assert server.ask("POST", "/api/search", QUESTION, {"host": host, **JSON}).status == 200


def test_whoever_listens_everywhere_is_asked_by_any_name() -> None:
    with listen.open_socket("0.0.0.0", 0) as everywhere:
        assert listen.names_of(everywhere, "0.0.0.0") is None
        assert listen.url_of(everywhere) == f"http://127.0.0.1:{everywhere.getsockname()[1]}"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({}, 415),
        ({**JSON, "origin": "https://evil.example"}, 403),
        ({**JSON, "origin": "http://localhost:3000"}, 403),
        ({**JSON, "origin": "null"}, 403),
        ({**JSON, "sec-fetch-site": "cross-site"}, 403),
        ({**JSON, "sec-fetch-site": "same-origin"}, 200),
        ({"content-type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_pages_of_others_may_not_ask(headers: dict[str, str], status: int, server: Server) -> None:
    assert server.ask("POST", "/api/search", QUESTION, headers).status == status


def test_the_page_of_this_server_may_ask(server: Server) -> None:
    origin = f"http://{server.host}:{server.port}"
    assert server.ask("POST", "/api/search", QUESTION, {**JSON, "origin": origin}).status == 200


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/api/about", "/api/items/0/picture", "/nowhere", "/metrics"])
def test_browsers_are_told_to_run_and_fetch_nothing_else(path: str, server: Server) -> None:
    headers = server.get(path).headers
    assert headers["content-security-policy"] == doors.POLICY
    assert "unsafe" not in doors.POLICY and "http" not in doors.POLICY and "*" not in doors.POLICY
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert headers["cross-origin-resource-policy"] == "same-origin" and "server" not in headers


# --- sizes ---


@contextlib.contextmanager
def sending(server: Server, head: str) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        lines = ("POST /api/search HTTP/1.1", "Host: localhost", "Content-Type: application/json", head, "", "")
        connection.sendall("\r\n".join(lines).encode())
        yield connection


def test_a_hundred_megabytes_are_refused_before_they_come(server: Server) -> None:
    with sending(server, f"Content-Length: {100 * MIB}") as connection:
        said = connection.recv(1 << 16)
    assert said.startswith(b"HTTP/1.1 413 ") and b"a picture may have 16,777,216 bytes at most" in said


def test_who_sends_all_before_they_listen_hears_why_and_nothing_is_kept(server: Server) -> None:
    before = psutil.Process().memory_info().rss
    reply = server.ask("POST", "/api/search", bytes(100 * MIB), JSON)
    assert reply.status == 413 and "too large" in reply.json["error"]
    assert psutil.Process().memory_info().rss - before < 60 * MIB


def test_what_does_not_say_how_long_it_is_is_refused_when_it_is_too_long(server: Server) -> None:
    piece = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    with sending(server, "Transfer-Encoding: chunked") as connection:
        connection.settimeout(0.01)
        said, sent = b"", 0
        while not said and sent < 100 * MIB:
            with contextlib.suppress(TimeoutError):
                connection.send(piece)
                sent += len(piece)
            if sent > Limits().body_bytes:
                with contextlib.suppress(TimeoutError):
                    said = connection.recv(1 << 16)
    assert said.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))


def test_a_picture_may_have_as_many_bytes_as_the_limit_says(shop: Path) -> None:
    file = file_of(picture(1), "bmp")
    with serving(shop, Limits(upload_bytes=len(file))) as server:
        assert server.search(image=base64_of(file)).status == 200
        reply = server.search(image=base64_of(file + b"\0"))
        assert reply.status == 413 and f"send one of {len(file):,} at most" in reply.json["error"]


def test_what_does_not_come_is_not_waited_for(shop: Path) -> None:
    with serving(shop, Limits(seconds=0.3)) as server, sending(server, "Content-Length: 100") as connection:
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")


def test_many_large_requests_at_once_are_told_to_come_again(shop: Path) -> None:
    limits = Limits(upload_bytes=MIB, held_bytes=2 * MIB)
    with serving(shop, limits) as server, sending(server, f"Content-Length: {limits.body_bytes}"):
        with sending(server, f"Content-Length: {limits.body_bytes}") as second:
            said = second.recv(1 << 16)
            assert said.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in said
        assert server.search(text="a").status == 200
