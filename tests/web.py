"""A web server that does all that one can do to whoever fetches pictures, and remembers who asked what and when.

It listens on every address of this machine, each of which is another host to who asks.
"""

import contextlib
import gzip
import io
import select
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import PIL.Image

FOREVER = 30.0
"""Seconds for which the server says nothing, where it says nothing: longer than anybody here waits."""


def picture(seed: int = 0) -> bytes:
    """Bytes of a small picture, another one for each seed."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (12, 10), (seed % 251, seed // 251 % 251, 77)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Seen:
    """What a server saw.

    Attributes:
        requests: path, host as the client named it, and moment, of every request in order.
        headers: of the last request for each path.
        most: connections that one host had at one time in which a request was answered.
    """

    requests: list[tuple[str, str, float]] = field(default_factory=list)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    most: Counter[str] = field(default_factory=Counter)
    now: dict[str, set[socket.socket]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def times(self, path: str) -> list[float]:
        """The moments at which something was asked for."""
        return [moment for asked, _, moment in self.requests if asked == path]


@dataclass
class Server:
    """A server that runs.

    Attributes:
        port: on every address of this machine.
        files: by their paths, what it serves as a plain file server does, ranges and all.
        seen: what it saw.
        tried: how often each path was asked for.
        connections: how many were made.
    """

    port: int
    files: dict[str, bytes] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    tried: Counter[str] = field(default_factory=Counter)
    connections: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Where something of it is."""
        return f"http://{host}:{self.port}{path}"

    def answer(self, method: str, path: str, bounds: str, connection: socket.socket) -> bool:
        """Answers a request; returns whether the connection stays open."""
        if path in self.files:
            _send_file(connection, method, self.files[path], bounds)
            return True
        name = path.strip("/").split("/")[0].split("?")[0]
        with self.seen.lock:
            self.tried[path] += 1
            tries = self.tried[path]
        answer = _ANSWERS.get(name)
        if answer is None:
            _send(connection, "404 Not Found", b"none")
            return True
        return answer(self, connection, path, tries)


Answer = Callable[[Server, socket.socket, str, int], bool]
_ANSWERS: dict[str, Answer] = {}


def _named(*names: str) -> Callable[[Answer], Answer]:
    def add(answer: Answer) -> Answer:
        _ANSWERS.update(dict.fromkeys(names, answer))
        return answer

    return add


def _send(connection: socket.socket, status: str, body: bytes, *headers: str, length: int | None = None) -> None:
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode() + body)


def _send_file(connection: socket.socket, method: str, content: bytes, bounds: str) -> None:
    status, part, headers = "200 OK", content, ["Accept-Ranges: bytes"]
    if bounds:
        first, last = bounds.removeprefix("bytes=").split("-")
        start, stop = int(first), min(len(content), int(last or len(content)) + 1)
        status, part = "206 Partial Content", content[start:stop]
        headers.append(f"Content-Range: bytes {start}-{stop - 1}/{len(content)}")
    _send(connection, status, b"" if method == "HEAD" else part, *headers, length=len(part))


def _seed(path: str) -> int:
    digits = "".join(filter(str.isdigit, path))
    return int(digits or "0")


@_named("ok")
def _ok(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    _send(connection, "200 OK", picture(_seed(path)), "Content-Type: image/png")
    return True


@_named("slow")
def _slow(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    time.sleep(0.1)
    return _ok(server, connection, path, tries)


@_named("wrong-type")
def _wrong_type(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    _send(connection, "200 OK", picture(_seed(path)), "Content-Type: text/html")
    return True


@_named("html")
def _html(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    _send(connection, "200 OK", b"\n<!DOCTYPE html><title>Sign in</title>", "Content-Type: image/png")
    return True


@_named("moved")
def _moved(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    _send(connection, "301 Moved Permanently", b"there", f"Location: /ok/{_seed(path)}.png")
    return True


@_named("loop")
def _loop(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    _send(connection, "302 Found", b"", f"Location: {path}")
    return True


@_named("to")
def _to(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    _send(connection, "307 Temporary Redirect", b"", f"Location: {path.partition('?')[2]}")
    return True


@_named("status")
def _status(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    _send(connection, f"{path.rpartition('/')[2]} As It Pleases The Server", b"no")
    return True


@_named("busy")
def _busy(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    """Has no time at the first try, and says when it will."""
    if tries == 1:
        _send(connection, "429 Slow Down", b"", "Retry-After: 1")
        return True
    return _ok(server, connection, path, tries)


@_named("mended")
def _mended(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    """Is not there at the first try."""
    if tries == 1:
        _send(connection, "410 Gone", b"")
        return True
    return _ok(server, connection, path, tries)


@_named("text")
def _text(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    _send(connection, "200 OK", b"no picture", "Content-Type: image/png")
    return True


@_named("shaky")
def _shaky(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    """Fails in another way at each of two tries."""
    if tries == 1:
        _send(connection, "503 Service Unavailable", b"")
        return True
    if tries == 2:
        _send(connection, "200 OK", picture()[:20], length=len(picture()))
        return False
    return _ok(server, connection, path, tries)


@_named("hangs")
def _hangs(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    connection.settimeout(FOREVER)
    connection.recv(1)  # who asked gives up, or hangs up
    return False


@_named("drips")
def _drips(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    """Sends a byte of a body, or of a header, now and then, so that it is never silent."""
    more = b"X: " if "header" in path else b"Content-Length: 999\r\n\r\n"
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + more)
    until = time.monotonic() + FOREVER
    while time.monotonic() < until:
        connection.sendall(b"x")
        time.sleep(0.05)
    return False


@_named("cut")
def _cut(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    """Says that there is more than it sends."""
    _send(connection, "200 OK", picture(), length=len(picture()) + 100)
    return False


@_named("cut-chunks")
def _cut_chunks(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n99\r\nno")
    return False


@_named("chunks")
def _chunks(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    body = picture(_seed(path))
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(body), 40):
        part = body[start : start + 40]
        connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
    connection.sendall(b"0\r\n\r\n")
    return True


@_named("unsaid")
def _unsaid(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    """Does not say how long it is, which is as many bytes as are asked for in the path."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + picture().ljust(_seed(path), b"\0"))
    return False


@_named("resets")
def _resets(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


@_named("hangs-up")
def _hangs_up(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    return False


@_named("junk")
def _junk(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    connection.sendall(b"\x00\x01 220 this is another protocol\r\n\r\n")
    return False


@_named("large")
def _large(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    """Says how many bytes it has, as many as the path asks for."""
    _send(connection, "200 OK", picture().ljust(_seed(path), b"\0"))
    return True


@_named("packed")
def _packed(server: Server, connection: socket.socket, path: str, tries: int) -> bool:
    """Packs as many bytes as are asked for in the path, though nobody said that it may."""
    _send(connection, "200 OK", gzip.compress(picture().ljust(_seed(path), b"\0")), "Content-Encoding: gzip")
    return True


@contextlib.contextmanager
def serving(secure: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server while the block runs, which speaks TLS if it is given how."""
    listening = socket.create_server(("", 0), backlog=512)
    server = Server(listening.getsockname()[1])
    open_now: set[socket.socket] = set()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                open_now.add(connection)
                server.connections += 1
                threading.Thread(target=_talk, args=(server, connection, open_now, secure), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in list(open_now):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _is_wanted(connection: socket.socket) -> bool:
    """Tells whether the other side has not hung up."""
    if connection.fileno() < 0:
        return False
    looked = select.poll()
    looked.register(connection, select.POLLRDHUP)
    return not looked.poll(0)


def _talk(
    server: Server, connection: socket.socket, open_now: set[socket.socket], secure: ssl.SSLContext | None
) -> None:
    with contextlib.suppress(OSError), connection:
        if secure is not None:
            open_now.discard(connection)
            connection = secure.wrap_socket(connection, server_side=True)
            open_now.add(connection)
        held = b""
        while True:
            while b"\r\n\r\n" not in held:
                more = connection.recv(4096)
                if not more:
                    open_now.discard(connection)
                    return
                held += more
            head, _, held = held.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            method, path, _ = first.split(" ")
            host = headers.get("host", "").rpartition(":")[0]
            seen = server.seen
            with seen.lock:
                seen.requests.append((path, host, time.monotonic()))
                seen.headers[path] = headers
                now = seen.now.setdefault(host, set())
                now.add(connection)
                seen.most[host] = max(seen.most[host], sum(map(_is_wanted, now)))
            try:
                if not server.answer(method, path, headers.get("range", ""), connection):
                    break
            finally:
                with seen.lock:
                    now.discard(connection)
    open_now.discard(connection)
