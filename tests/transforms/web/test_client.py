"""A client against a server that does all that one can do: files, faults, limits, and addresses."""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests import web
from transforms.storage import addresses
from transforms.web import connections, faults
from transforms.web.client import Client, OutOfTimeError, Wanted, client_of
from transforms.web.costs import MoreRoomError
from transforms.web.faults import LONGEST_WAIT, WebError
from transforms.web.limits import WebLimits
from transforms.web.turns import Turns

SECONDS = 1.5
OPEN = WebLimits(allow_private=True)


class Clock:
    """The time of one file, as threads of a loader have it."""

    def __init__(self) -> None:
        self._since, self.waited = time.monotonic(), 0.0

    def spent(self) -> float:
        return time.monotonic() - self._since - self.waited

    @contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began


@pytest.fixture
def server() -> Iterator[web.Server]:
    with web.serving() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "FIRST_PAUSE", 0.02)


def wanted(url: str, limit: int = 50_000, seconds: float = SECONDS, room: int | None = None) -> Wanted:
    return Wanted(url, limit, seconds, Clock(), limit if room is None else room)


def fault_at(url: str, client: Client | None = None, **how: float) -> tuple[str, str]:
    with pytest.raises(WebError) as caught:
        (client or Client(OPEN)).get(wanted(url, **how))  # type: ignore[arg-type]  # whole numbers are numbers
    return caught.value.fault.type, caught.value.fault.message


# --- files ---


@pytest.mark.parametrize("name", ["ok", "wrong-type", "moved", "chunks", "busy", "shaky"])
def test_a_picture_is_had_whatever_the_server_says_of_it_and_however_often_it_must_be_asked(
    server: web.Server, name: str
) -> None:
    assert Client(OPEN).get(wanted(server.url(f"/{name}/7"))) == web.picture(7)


@pytest.mark.parametrize("name", ["unsaid", "packed", "large"])
def test_a_file_ends_where_it_ends(server: web.Server, name: str) -> None:
    assert Client(OPEN).get(wanted(server.url(f"/{name}/3000"))) == web.picture().ljust(3000, b"\0")


def test_a_connection_serves_one_file_after_the_other_and_errors_between(server: web.Server) -> None:
    client = Client(OPEN)
    for number in range(5):
        client.get(wanted(server.url(f"/ok/{number}")))
        assert fault_at(server.url(f"/status/{404 + number % 2 * 6}"), client)[0] == "HTTPError"
    assert server.connections == 1


def test_a_name_may_hold_what_must_be_quoted(server: web.Server) -> None:
    Client(OPEN).get(wanted(server.url("/ok/a b/ü%20+.png?x=1&y=(2)#part")))
    assert server.seen.requests[0][0] == "/ok/a%20b/%C3%BC%20+.png?x=1&y=(2)"


def test_who_asks_says_so_and_gives_a_password_to_nobody_else(server: web.Server) -> None:
    client = Client(WebLimits(allow_private=True, user_agent="pixdex (me@example.org)"))
    client.get(wanted(server.url("/ok/1", "me:p%40ss@127.0.0.1")))
    assert server.seen.headers["/ok/1"]["user-agent"] == "pixdex (me@example.org)"
    assert server.seen.headers["/ok/1"]["authorization"] == "Basic bWU6cEBzcw=="
    client.get(wanted(server.url(f"/to?{server.url('/ok/2', 'localhost')}", "me:p@127.0.0.1")))
    assert "authorization" not in server.seen.headers["/ok/2"]


# --- faults ---

FAULTS = {
    "/status/403": ("HTTPError", "403 Forbidden", 1),
    "/status/404": ("HTTPError", "404 Not Found", 1),
    "/status/500": ("HTTPError", "500 Internal Server Error", faults.TRIES),
    "/html": ("HTMLPage", "the server sent a page of HTML, and no picture", 1),
    "/loop": ("TooManyRedirects", "more than 10 redirects lead from it", 11),
    "/to?file:///etc/passwd": ("BadURL", "it is no URL of http or https, or leads to none", 1),
    "/cut/1": ("CutShort", "the connection ended before the body did", faults.TRIES),
    "/cut-chunks": ("CutShort", "the connection ended before the body did", faults.TRIES),
    "/resets": ("ConnectionResetError", "Connection reset by peer", faults.TRIES),
    "/hangs-up": ("RemoteDisconnected", "Remote end closed connection without response", faults.TRIES),
    "/junk": ("BadAnswer", "what the server says is no HTTP", faults.TRIES),
}


@pytest.mark.parametrize("path", FAULTS)
def test_a_fault_has_its_words_and_its_number_of_tries(server: web.Server, path: str) -> None:
    kind, message, tries = FAULTS[path]
    assert fault_at(server.url(path)) == (kind, message)
    assert len(server.seen.requests) == tries


@pytest.mark.parametrize("path", ["/hangs", "/drips", "/drips/header"])
def test_what_never_comes_to_an_end_is_over_when_its_time_is(server: web.Server, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTimeError):
        Client(OPEN).get(wanted(server.url(path), seconds=0.5))
    assert 0.4 < time.monotonic() - began < web.FOREVER


def test_a_fault_is_said_though_the_time_is_over_at_a_later_try(server: web.Server) -> None:
    file = wanted(server.url("/cut/1"))

    def oversleep(_seconds: float) -> None:
        file.clock.waited = -file.seconds  # type: ignore[attr-defined]

    with pytest.raises(WebError, match="the connection ended before the body did"):
        Client(OPEN, sleep=oversleep).get(file)
    assert len(server.seen.requests) == 1


def test_a_server_that_is_silent_is_asked_again(server: web.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT_SECONDS", 0.1)
    assert fault_at(server.url("/hangs"))[0] == "TimeoutError"
    assert len(server.seen.requests) == faults.TRIES


def test_nobody_at_the_port_and_nobody_of_the_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert fault_at(f"http://127.0.0.1:{port}/a") == ("ConnectionRefusedError", "Connection refused")
    assert fault_at("http://no.such.invalid/a")[0] == "UnknownHost"
    for url in ("ftp://host/a", "http://", "http:///a", f"http://{'a' * 70}.com/", "http://[::1/a", "http://a:b/"):
        assert fault_at(url)[0] in ("BadURL", "UnknownHost"), url


# --- TLS ---


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[web.Server]:
    """A server with a certificate for 127.0.0.1 that this machine trusts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now - timedelta(1), now + timedelta(1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = made.add_extension(address, critical=False).add_extension(x509.BasicConstraints(True, None), critical=True)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form, nothing = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(pem + key.private_bytes(serialization.Encoding.PEM, form, nothing))
    (tmp_path / "trusted").write_bytes(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "key")
    with web.serving(context) as running:
        yield running


def over_tls(server: web.Server, path: str, host: str = "127.0.0.1") -> str:
    return server.url(path, host).replace("http:", "https:")


def test_over_tls_a_picture_is_had_and_what_never_ends_is_over_when_its_time_is(secure: web.Server) -> None:
    client = Client(OPEN)
    assert client.get(wanted(over_tls(secure, "/moved/7"))) == web.picture(7)
    for path in ("/hangs", "/drips", "/drips/header"):
        began = time.monotonic()
        with pytest.raises(OutOfTimeError):
            client.get(wanted(over_tls(secure, path), seconds=0.5))
        assert time.monotonic() - began < web.FOREVER


def test_a_certificate_that_nobody_vouches_for_or_of_another_host_is_a_reject(
    secure: web.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, message = fault_at(over_tls(secure, "/ok/1", "localhost"))
    assert (kind, message.partition(",")[0]) == ("SSLCertVerificationError", "Hostname mismatch")
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    assert fault_at(over_tls(secure, "/ok/1")) == ("SSLCertVerificationError", "self-signed certificate")
    assert secure.seen.requests == []


def test_a_port_that_does_not_speak_tls_is_a_fault(server: web.Server) -> None:
    server.files["/"] = b""
    with pytest.raises((WebError, OutOfTimeError)):
        Client(OPEN).get(wanted(over_tls(server, "/ok/1"), seconds=0.5))


# --- limits ---


@pytest.mark.parametrize(("path", "said"), [("/large/60000", "60000 bytes"), ("/unsaid/60000", "more than 50000 bytes"),
                                            ("/packed/60000", "more than 50000 bytes")])  # fmt: skip
def test_a_file_may_have_so_many_bytes_said_or_not_packed_or_not(server: web.Server, path: str, said: str) -> None:
    kind, message = fault_at(server.url(path))
    assert kind == "ObjectTooLargeError" and message.startswith(f"the file has {said}, the limit is 50000: raise --max")
    assert len(server.seen.requests) == 1


def test_a_file_that_is_larger_than_there_is_room_for_asks_for_room(server: web.Server) -> None:
    for path, room in (("/large/9000", 9000), ("/unsaid/9000", 4000), ("/packed/9000", 4000)):
        with pytest.raises(MoreRoomError) as caught:
            Client(OPEN).get(wanted(server.url(path), room=1000))
        assert caught.value.bytes == room, path


def test_a_host_has_so_many_connections_and_each_host_its_own(server: web.Server) -> None:
    client = Client(WebLimits(allow_private=True, host_connections=2))
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    urls = [server.url(f"/slow/{number}", host) for number in range(8) for host in hosts]
    threads = [threading.Thread(target=client.get, args=(wanted(url, seconds=20),)) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(server.seen.most) == dict.fromkeys(hosts, 2)
    assert len(server.seen.requests) == 24
    times = [[at for _, asked, at in server.seen.requests if asked == host] for host in hosts]
    assert max(min(of_host) for of_host in times) < min(max(of_host) for of_host in times)  # not one after the other


def test_a_host_is_asked_no_more_often_than_allowed_and_waiting_is_no_time_of_a_file(server: web.Server) -> None:
    client = Client(WebLimits(allow_private=True, host_rate=10))
    files = [wanted(server.url(f"/ok/{number}"), seconds=0.3) for number in range(10)]
    threads = [threading.Thread(target=client.get, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments = sorted(moment for _, _, moment in server.seen.requests)
    assert len(moments) == 10
    assert moments[-1] - moments[0] > 0.85


def test_a_busy_host_is_left_alone_for_as_long_as_it_says(server: web.Server) -> None:
    client = Client(OPEN)
    busy = threading.Thread(target=client.get, args=(wanted(server.url("/busy/1"), seconds=0.5),))
    busy.start()
    while not server.seen.times("/busy/1"):
        time.sleep(0.01)
    time.sleep(0.1)
    client.get(wanted(server.url("/ok/1"), seconds=0.5))
    busy.join()
    first, second = server.seen.times("/busy/1")
    assert second - first >= 1 and server.seen.times("/ok/1")[0] - first >= 1


def test_a_host_that_says_no_time_is_left_alone_for_longer_each_time(server: web.Server) -> None:
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    client = Client(OPEN, Turns(4, None, lambda: now[0], sleep))
    assert fault_at(server.url("/status/503"), client) == ("HTTPError", "503 Service Unavailable")
    assert len(slept) == faults.TRIES - 1
    assert all(second > first for first, second in zip(slept[::2], slept[2::2], strict=False))
    assert max(slept) < LONGEST_WAIT


def test_threads_of_a_process_share_one_client() -> None:
    found = set[Client]()
    threads = [threading.Thread(target=lambda: found.add(client_of(WebLimits(host_connections=3)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1


# --- addresses ---

SPELLINGS = ["127.0.0.1", "localhost", "2130706433", "127.1", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "127.9.9.9"]


@pytest.mark.parametrize("host", [*SPELLINGS, "10.255.255.1", "169.254.169.254", "[fe80::1]", "0.0.0.0"])
def test_an_address_of_this_machine_or_its_network_is_asked_nothing(server: web.Server, host: str) -> None:
    kind, message = fault_at(server.url("/ok/1", host), Client(WebLimits()))
    assert kind == "PrivateAddress" and "is an address of this machine or its network" in message
    assert server.connections == 0


def test_a_name_that_leads_to_a_private_address_is_asked_nothing(
    server: web.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was looked at a moment ago, and led to a public one then."""
    answers, real = iter(["93.184.216.34", "127.0.0.1"]), socket.getaddrinfo

    def looked_up(host: str, *where: Any, **how: Any) -> Any:
        return real(next(answers), *where, **how)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    assert addresses.is_public_host("http://rebinds.example/ok/1")
    assert fault_at(f"http://rebinds.example:{server.port}/ok/1", Client(WebLimits()))[0] == "PrivateAddress"
    assert server.connections == 0


def test_a_host_that_was_named_may_be_private_and_leads_to_no_other(server: web.Server) -> None:
    client, named = Client(WebLimits()), frozenset({"127.0.0.1"})

    def get(path: str) -> bytes:
        return client.get(Wanted(server.url(path), 50_000, SECONDS, Clock(), 50_000, named))

    assert get("/moved/3") == web.picture(3)
    with pytest.raises(WebError, match=r"127\.0\.0\.2 is an address of this machine"):
        get(f"/to?{server.url('/ok/1', '127.0.0.2')}")
    with pytest.raises(WebError, match=r"127\.0\.0\.1 is an address of this machine"):
        get(f"/to?{server.url('/ok/1', 'localhost')}")
    assert {host for _, host, _ in server.seen.requests} == {"127.0.0.1"}


def test_a_connection_that_was_made_by_leave_is_no_way_for_those_without(server: web.Server) -> None:
    client = Client(WebLimits())
    client.get(Wanted(server.url("/ok/1"), 50_000, SECONDS, Clock(), 50_000, frozenset({"127.0.0.1"})))
    assert fault_at(server.url("/ok/1"), client)[0] == "PrivateAddress"
    assert len(server.seen.requests) == 1
