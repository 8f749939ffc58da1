"""Which requests are let in, and what browsers are told of every answer."""

import contextlib
import json
import select
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transforms.serving.server import JSON, Server, serving, wait_for
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


def test_whoever_listens_everywhere_says_where_this_machine_asks() -> None:
    with listen.open_socket("0.0.0.0", 0) as everywhere:
        assert listen.url_of(everywhere) == f"http://127.0.0.1:{everywhere.getsockname()[1]}"


@pytest.fixture(scope="module")
def everywhere(shop: Path) -> Iterator[Server]:
    with serving(shop, host="0.0.0.0", allowed=("photos.example",)) as server:
        yield server


@pytest.mark.parametrize("host", ["evil.example:8080", "10.0.0.1.evil.example", "photos.example.evil", "", "1::2"])
def test_a_name_that_leads_here_is_not_answered_where_everybody_reaches_it(host: str, everywhere: Server) -> None:
    own = {"host": host, "origin": f"http://{host}", **JSON}
    for method, path, body in (("GET", "/", None), ("GET", "/api/about", None), ("POST", "/api/search", QUESTION)):
        reply = everywhere.ask(method, path, body, own)
        assert reply.status in (400, 403) and b"pixdex</title>" not in reply.body
        if reply.status == 403 and host:
            assert "--allow-host NAME" in reply.json["error"] and "localhost" in reply.json["error"]


@pytest.mark.parametrize(
    "host",
    ["photos.example", "Photos.Example:443", "localhost:8080", "192.0.2.7:80", "[2001:db8::1]:80", "[fe80::1%25eth0]"],
)
def test_names_of_its_own_and_addresses_are_answered_there(host: str, everywhere: Server) -> None:
    own = {"host": host, "origin": f"http://{host}", **JSON}
    assert everywhere.ask("POST", "/api/search", QUESTION, own).status == 200


def test_names_that_this_machine_has_for_itself_are_answered_there(everywhere: Server) -> None:
    for name in (socket.gethostname(), socket.getfqdn()):
        assert everywhere.get("/healthz", {"host": name}).status == 200


def test_a_name_that_is_allowed_is_one_of_loopback_too(shop: Path) -> None:
    with serving(shop, allowed=("photos.example",)) as server:
        assert server.get("/healthz", {"host": "photos.example"}).status == 200
        assert server.get("/healthz", {"host": "192.0.2.7"}).status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({}, 415),
        ({**JSON, "origin": "https://evil.example"}, 403),
        ({**JSON, "origin": "http://localhost:3000"}, 403),
        ({**JSON, "origin": "null"}, 403),
        ({**JSON, "origin": "http://["}, 403),
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
        while not said.endswith(b"}"):  # the head may come before the rest; unless more comes, this waits in vain
            said += connection.recv(1 << 16)
    assert said.startswith(b"HTTP/1.1 413 ") and b"a picture may have 16,777,216 bytes at most" in said


def test_who_sends_all_before_they_listen_hears_why_and_nothing_is_kept(server: Server) -> None:
    sent = bytes(100 * MIB)
    tracemalloc.start()
    try:
        reply = server.ask("POST", "/api/search", sent, JSON)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reply.status == 413 and "too large" in reply.json["error"]
    assert peak < 60 * MIB


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
    with serving(shop, limits) as server:
        with sending(server, f"Content-Length: {limits.body_bytes}") as first:
            first.sendall(bytes(limits.body_bytes - 1))
            wait_for(lambda: asked(server, f"Content-Length: {limits.body_bytes}").startswith(b"HTTP/1.1 503 "))
            assert b"retry-after: 1" in asked(server, f"Content-Length: {limits.body_bytes}")
            assert server.search(text="a").status == 200
        wait_for(lambda: b"503" not in asked(server, f"Content-Length: {limits.body_bytes}"))


def asked(server: Server, head: str) -> bytes:
    """What is said to whoever has sent no more than a head; nothing, where the server waits for the rest."""
    with sending(server, head) as connection, contextlib.suppress(TimeoutError):
        connection.settimeout(0.5)
        return connection.recv(1 << 16)
    return b""


def test_who_does_not_say_how_much_comes_is_counted_by_what_has_come(shop: Path) -> None:
    limits = Limits(upload_bytes=MIB, held_bytes=2 * MIB)
    piece = b"100000\r\n" + bytes(MIB) + b"\r\n"
    with serving(shop, limits) as server, contextlib.ExitStack() as open_ones:
        many = [open_ones.enter_context(sending(server, "Transfer-Encoding: chunked")) for _ in range(5)]
        for one in many:
            one.sendall(b"1\r\n{\r\n")
        small = b"%x\r\n%b\r\n0\r\n\r\n" % (len(QUESTION), QUESTION)
        with sending(server, "Transfer-Encoding: chunked") as another:
            another.sendall(small)
            assert another.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        many[0].sendall(piece)
        many[1].sendall(piece)
        refused = select.select(many[:2], [], [], 30)[0]
        assert refused and refused[0].recv(1 << 16).startswith(b"HTTP/1.1 503 ")
        assert server.search(text="a").status == 200  # what the one that was refused had sent is given back
