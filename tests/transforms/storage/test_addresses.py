"""Which addresses everybody can reach, and that a public one leads to no other."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from transforms.storage import addresses, uris


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("0.0.0.0", False),
        ("127.9.9.9", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a00:1::", False),
        ("ff02::1", False),
    ],
)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert addresses.is_public(address) is public


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "0.0.0.0",
        "me@127.0.0.1",
        "no.such.invalid",
        "",
    ],
)
def test_a_host_of_this_machine_is_not_public_however_it_is_spelled(host: str) -> None:
    assert not addresses.is_public_host(f"http://{host}:8080/a.png")
    assert not addresses.is_public_host("http://[broken/a.png")


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An address of this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"body")

        do_HEAD = do_GET  # noqa: N815 - the name of the library

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()


def test_who_names_a_private_address_means_it(server: tuple[str, list[str]]) -> None:
    address, asked = server
    assert uris.read(f"{address}/a.png") == b"body"
    assert asked


def test_a_public_name_leads_to_no_private_address(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a redirect, or where a name stands for another address a moment later: each connection is looked at."""
    address, asked = server
    monkeypatch.setattr(addresses, "is_public_host", lambda uri: True)
    with pytest.raises(OSError, match=address):
        uris.read(f"{address}/a.png")
    assert asked == []
