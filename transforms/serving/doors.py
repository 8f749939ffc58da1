"""The door: which requests are let in, how large they may be, and what browsers are told of every answer.

The server has no password, and wherever it listens a browser may reach it. So a page of somebody else must not ask it
anything: not by a name of its own that leads here (DNS rebinding: the Host is looked at, see `hosts`), and not by a
form or a script of another site (the type of what is sent, and Origin, are).
"""

import asyncio
import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transforms.serving import hosts
from transforms.serving.hosts import Hosts
from transforms.serving.limits import Limits
from transforms.serving.measures import Measures

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_ALWAYS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_DRAINED_SECONDS: Final = 10.0
_DRAINED_BYTES: Final = 1 << 28
"""Of a request that is refused so much is thrown away as it comes: who sends all before they listen hear why."""


class Refused(Exception):  # noqa: N818 - it is an answer, and no error
    """A request is not let in."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        """Says so with a status, and why on one line."""
        super().__init__(why)
        self.status = status


class Doors:
    """Stands before an application (ASGI): what it lets in has its body with it, whole."""

    def __init__(self, app: ASGIApp, limits: Limits, measures: Measures, names: Hosts) -> None:
        """Takes the application, and the names by which it may be asked for."""
        self._app, self._limits, self._measures = app, limits, measures
        self._hosts = names
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or has the application do so."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = [(name.encode(), value.encode()) for name, value in _ALWAYS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *named]}
            await send(message)

        with self._measures.in_flight.track_inprogress():
            try:
                await self._let_in(scope, receive, answer)
            finally:
                route = scope.get("route")
                self._measures.count(getattr(route, "path", "other"), status, time.perf_counter() - began)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        booked = _Booked()
        try:
            self._check_host(headers)
            if scope["method"] != "POST":
                if scope["method"] == "HEAD":  # whoever sends leaves the body out
                    scope = {**scope, "method": "GET"}
                await self._app(scope, receive, send)
                return
            self._check_origin(headers)
            self._check_length(headers)
            body = await self._body(receive, booked)
            if body is not None:
                await self._app(scope, _given(body, receive), send)
            return
        except Refused as refused:
            status, why = refused.status, str(refused)
        finally:
            self._held -= booked.size  # not before: whoever answers has them until then
        await _refuse(status, why, receive, send)  # when the error, and with it what had come, is gone

    def _check_host(self, headers: Headers) -> None:
        name = _host_of(f"//{headers.get('host', '')}")
        if not self._hosts.has(name):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                f"the host {name!r:.80} is not this server: ask for {self._hosts.words}; if the name is its own, start "
                f"it with {hosts.FLAG} NAME",
            )

    def _check_origin(self, headers: Headers) -> None:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "questions are JSON: send content-type: application/json")
        origin = headers.get("origin")
        if origin is not None and _authority_of(origin) != headers.get("host", "").lower():
            raise Refused(HTTPStatus.FORBIDDEN, f"a page of {origin!r:.80} asks, and only pages of this server may")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(HTTPStatus.FORBIDDEN, "a page of another site asks, and only pages of this server may")

    def _check_length(self, headers: Headers) -> None:
        """Refuses what says that it is too long, or longer than there is room for now, before it comes."""
        said = headers.get("content-length")
        size = int(said) if said is not None and said.isdecimal() else 0
        if size > self._limits.body_bytes:
            raise self._too_large()
        self._check_room(size)

    def _check_room(self, size: int) -> None:
        if self._held + size > max(self._limits.held_bytes, self._limits.body_bytes):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too much is being sent at once: come again")

    def _too_large(self) -> Refused:
        most = self._limits.upload_bytes
        return Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request is too large: a picture may have {most:,} bytes at most"
        )

    async def _body(self, receive: Receive, booked: "_Booked") -> bytes | None:
        """What is sent, whole; None: whoever sends has left. It is booked as it comes, and by nobody before."""
        body, most = bytearray(), self._limits.body_bytes
        try:
            async with asyncio.timeout(self._limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    piece = message.get("body", b"")
                    if len(body) + len(piece) > most:
                        raise self._too_large()
                    self._check_room(len(piece))
                    self._held += len(piece)
                    booked.size += len(piece)
                    body += piece
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the request takes too long to come") from None


@dataclass
class _Booked:
    """How many of the bytes that requests hold together are those of one."""

    size: int = 0


def _given(body: bytes, receive: Receive) -> Receive:
    """What an application receives: the body, then whatever comes."""
    is_given = False

    async def given() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return given


async def _refuse(status: HTTPStatus, why: str, receive: Receive, send: Send) -> None:
    """Says why, at once, and then throws away what still comes, for a while."""
    data = json.dumps({"error": why}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"connection", b"close"),
        (b"cache-control", b"no-store"),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": True})
    left = _DRAINED_BYTES
    try:
        async with asyncio.timeout(_DRAINED_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _authority_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
