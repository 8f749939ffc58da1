"""The door: which requests are let in, how large they may be, and what browsers are told of every answer.

The server has no password, and may listen where a browser of the same machine reaches it. So a page of somebody else
must not ask it anything: not by a name of its own that leads here (DNS rebinding: the Host is looked at), and not by a
form or a script of another site (the type of what is sent, and Origin, are).
"""

import asyncio
import json
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

    def __init__(self, app: ASGIApp, limits: Limits, measures: Measures, hosts: Iterable[str] | None) -> None:
        """Takes the application; of names of the host those that may be asked for, None: any."""
        self._app, self._limits, self._measures = app, limits, measures
        self._hosts = None if hosts is None else frozenset(hosts)
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
        held = 0
        try:
            self._check_host(headers)
            if scope["method"] != "POST":
                await self._app(scope, receive, send)
                return
            self._check_origin(headers)
            held = self._held_for(headers)
            self._held += held
            body = await self._body(receive)
            if body is not None:
                await self._app(scope, _given(body, receive), send)
        except Refused as refused:
            await _refuse(refused, receive, send)
        finally:
            self._held -= held

    def _check_host(self, headers: Headers) -> None:
        if self._hosts is None:
            return
        name = _host_of(f"//{headers.get('host', '')}")
        if name not in self._hosts:
            raise Refused(
                HTTPStatus.FORBIDDEN,
                f"the host {name!r:.80} is not this machine: ask for {' or '.join(sorted(self._hosts))}",
            )

    def _check_origin(self, headers: Headers) -> None:
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "questions are JSON: send content-type: application/json")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise Refused(HTTPStatus.FORBIDDEN, f"a page of {origin!r:.80} asks, and only pages of this server may")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(HTTPStatus.FORBIDDEN, "a page of another site asks, and only pages of this server may")

    def _held_for(self, headers: Headers) -> int:
        """How many bytes a request will have at most."""
        most, said = self._limits.body_bytes, headers.get("content-length")
        size = int(said) if said is not None and said.isdecimal() else most
        if size > most:
            raise self._too_large()
        if self._held + size > max(self._limits.held_bytes, most):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too much is being sent at once: come again")
        return size

    def _too_large(self) -> Refused:
        most = self._limits.upload_bytes
        return Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request is too large: a picture may have {most:,} bytes at most"
        )

    async def _body(self, receive: Receive) -> bytes | None:
        """What is sent, whole; None: whoever sends has left."""
        body, most = bytearray(), self._limits.body_bytes
        try:
            async with asyncio.timeout(self._limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the request takes too long to come") from None


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


async def _refuse(refused: Refused, receive: Receive, send: Send) -> None:
    """Says why, at once, and then throws away what still comes, for a while."""
    data = json.dumps({"error": str(refused)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"connection", b"close"),
        (b"cache-control", b"no-store"),
    ]
    if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": int(refused.status), "headers": headers})
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


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
