"""A server of this process, which listens on a port of its own, and a client that asks it."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.transforms.serving.shop import ENCODER
from transforms.serving import listen
from transforms.serving.app import application
from transforms.serving.following import Following
from transforms.serving.limits import Limits
from transforms.serving.opened import How
from transforms.storage.store import Store

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    host: str
    port: int
    following: Following

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Asks once, over a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("GET", path, headers=headers)

    def search(self, **question: Any) -> Reply:
        return self.ask("POST", "/api/search", json.dumps(question).encode(), JSON)

    def found(self, **question: Any) -> list[dict[str, Any]]:
        """The results of a question that is answered."""
        reply = self.search(**question)
        assert reply.status == 200, reply.body
        results: list[dict[str, Any]] = reply.json["results"]
        return results


@contextlib.contextmanager
def serving(
    root: Path,
    limits: Limits | None = None,
    *,
    refresh: float = 0.05,
    how: How | None = None,
    host: str = "127.0.0.1",
    allowed: tuple[str, ...] = (),
) -> Iterator[Server]:
    """Serves a root while the block lasts."""
    following = Following(how or How(Store.at(str(root)), ENCODER), refresh)
    with listen.open_socket(host, 0) as listening:
        answers = threading.Event()
        app = application(following, limits or Limits(), listen.names_of(listening, host, allowed))

        def told() -> None:
            following.start()
            answers.set()

        server = listen.Server.of(app, told)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert answers.wait(30)
            yield Server("127.0.0.1", listening.getsockname()[1], following)
        finally:
            server.should_exit = True
            thread.join(30)
            following.close()


def wait_for(what: Any, seconds: float = 20.0) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it is not so in time"
        time.sleep(0.02)
