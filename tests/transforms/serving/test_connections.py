"""Connections that say nothing end, and so many that none is left for others are not taken."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.transforms.serving.server import Server, serving
from transforms.serving import listen
from transforms.serving.connections import Connection
from transforms.serving.opened import Opened


@pytest.fixture
def strict(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(Connection, "head_seconds", 1.0)
    monkeypatch.setattr(Connection, "most", 4)
    with serving(shop) as server:
        yield server


def silent(server: Server, said: bytes = b"") -> socket.socket:
    connection = socket.create_connection((server.host, server.port), timeout=30)
    connection.sendall(said)
    return connection


def is_over(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nx:"])
def test_a_head_that_does_not_come_is_not_waited_for(strict: Server, said: bytes) -> None:
    with silent(strict, said) as connection:
        assert is_over(connection)


def test_one_that_was_answered_is_not_kept_for_half_a_head(strict: Server) -> None:
    with silent(strict, b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n") as connection:
        time.sleep(0.5)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HT")
        assert is_over(connection)


def test_more_than_there_may_be_are_closed_and_others_are_answered_again(strict: Server) -> None:
    several = [silent(strict) for _ in range(8)]
    assert all(is_over(connection) for connection in several)
    for connection in several:
        connection.close()
    assert strict.get("/healthz").status == 200


def test_a_head_alone_may_be_asked_for(strict: Server) -> None:
    for path in ("/", "/healthz"):
        reply = strict.ask("HEAD", path)
        assert reply.status == 200 and reply.body == b"" and int(reply.headers["content-length"]) > 0


def test_the_end_waits_for_answers_and_for_no_body_that_is_not_whole(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def sample(_: Opened) -> list[Any]:
        began.set()
        assert goes_on.wait(30)
        return []

    with contextlib.ExitStack() as stack:
        with serving(shop) as server:
            monkeypatch.setattr(Opened, "sample", sample)
            head = f"POST /api/search HTTP/1.1\r\nhost: {server.host}\r\ncontent-type: application/json\r\n"
            half = stack.enter_context(silent(server, f"{head}content-length: 100\r\n\r\n{{".encode()))
            asked = stack.enter_context(silent(server, b"GET /api/sample HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"))
            assert began.wait(30)
            threading.Timer(1.0, goes_on.set).start()
            end = time.monotonic()
        assert time.monotonic() - end < 10  # and not 20, the grace of what was begun
        assert is_over(half)
        assert asked.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_nobody_is_let_in_before_the_root_is_open(shop: Path) -> None:
    with listen.open_socket("127.0.0.1", 0) as early, pytest.raises(ConnectionRefusedError):
        socket.create_connection(early.getsockname(), timeout=5)
