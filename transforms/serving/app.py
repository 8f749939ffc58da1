"""The application: its addresses, and which status an error has."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, Final

import faiss
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from transforms.errors import PixdexError, UsageError
from transforms.pictures.guards import Decoders
from transforms.search.trace import Trace
from transforms.serving import files, misread, thumbnails
from transforms.serving.answering import answer, as_json
from transforms.serving.doors import Doors
from transforms.serving.faults import BusyError, LateError, NoPictureError, NotReachedError, TooLargeError
from transforms.serving.following import Following
from transforms.serving.hosts import Hosts
from transforms.serving.limits import Limits
from transforms.serving.measures import CONTENT_TYPE, Measures
from transforms.serving.questions import About, Answer, Health, Question, Refusal
from transforms.serving.thumbnails import Thumbnails
from transforms.serving.turns import Turns

_STATUS: Final[tuple[tuple[type[PixdexError], HTTPStatus], ...]] = (
    (UsageError, HTTPStatus.BAD_REQUEST),
    (NoPictureError, HTTPStatus.NOT_FOUND),
    (NotReachedError, HTTPStatus.BAD_GATEWAY),
    (TooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (BusyError, HTTPStatus.SERVICE_UNAVAILABLE),
    (LateError, HTTPStatus.GATEWAY_TIMEOUT),
)
"""Of errors; what is none of them is a fault of the server, or of the root."""

_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Refusal, "description": "The question cannot be answered so"},
    413: {"model": Refusal, "description": "More is sent than may be"},
    503: {"model": Refusal, "description": "So much is asked at once that this has to come again"},
    504: {"model": Refusal, "description": "The answer takes longer than it may"},
}
_NO_PICTURE: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Refusal, "description": "There is no such picture, or none that can be shown"},
    502: {"model": Refusal, "description": "What the picture lies in cannot be read now"},
}
_ASK_AGAIN: Final = "private, no-cache"
"""Browsers keep it, and ask whether it is still so: what is hidden is hidden at once."""

_Known = Annotated[str | None, Header(alias="if-none-match", include_in_schema=False)]


def application(following: Following, limits: Limits, hosts: Hosts) -> ASGIApp:
    """Returns what answers for a root.

    Args:
        following: its generation; whoever made it closes it.
        limits: what is refused.
        hosts: names by which it may be asked for.
    """
    decoders, measures = Decoders(limits.decoders), Measures(following)
    small = Thumbnails(decoders, limits)
    searches = Turns("searches", limits.threads, limits.at_once, limits.seconds, _on_one_core)
    pictures = Turns("pictures", limits.picture_threads, limits.at_once, limits.seconds)
    page = files.page()

    @asynccontextmanager
    async def open_for_questions(_: FastAPI) -> AsyncIterator[None]:
        yield
        for one in (searches, pictures, decoders):
            one.close()

    app = FastAPI(
        title="pixdex",
        description="Searches one root of pixdex.",
        lifespan=open_for_questions,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )

    @app.post("/api/search", response_class=Response, responses={200: {"model": Answer}, **_REFUSALS})
    async def search(question: Question) -> Response:
        """Finds the items nearest to a text, a picture, a vector or another item."""
        opened, trace = following.state.opened, Trace(is_full=False)
        data = await searches.run(answer, opened, question, decoders, limits, trace)
        measures.count_steps(trace)
        return _json(data)

    @app.get("/api/items/{id}/picture", response_class=Response, responses={**_NO_PICTURE, **_REFUSALS})
    async def picture(
        id: Annotated[int, Path(ge=0, lt=1 << 63)],
        size: Annotated[int, Query(ge=thumbnails.LEAST, le=thumbnails.MOST)] = thumbnails.USUAL,
        known: _Known = None,
    ) -> Response:
        """Shows the picture of an item, upright, `size` pixels wide or high: a JPEG or a PNG."""
        made = await pictures.run(small.of, following.state.opened, id, size)
        return _tagged(made.data, made.media_type, made.tag, known)

    @app.get("/api/sample", response_class=Response, responses={200: {"model": Answer}})
    async def sample() -> Response:
        """Shows some items, of no question."""
        opened = following.state.opened
        drawn = await searches.run(opened.sample)
        return _json(as_json({"generation": opened.number, "results": drawn}))

    @app.get("/api/about")
    async def about() -> About:
        """Says what is searched, and what may be asked."""
        return following.state.opened.about(limits)

    @app.get("/healthz")
    async def health() -> Health:
        """Says whether the newest generation answers; any answer means that questions are answered."""
        state = following.state
        return Health(
            status="ok" if state.problem is None else "stale",
            generation=state.opened.number,
            newest=state.newest,
            problem=state.problem,
        )

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(measures.text(), media_type=CONTENT_TYPE)

    @app.get("/", response_class=Response, include_in_schema=False)
    async def home(known: _Known = None) -> Response:
        return _file(page, files.HOME, known)

    @app.get("/page/{name}", response_class=Response, include_in_schema=False)
    async def part(name: str, known: _Known = None) -> Response:
        return _file(page, name, known)

    app.add_exception_handler(PixdexError, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _unforeseen)
    return Doors(app, limits, measures, hosts)


def _on_one_core() -> None:
    """Has faiss use no other thread than the one that asks: many ask at once."""
    faiss.omp_set_num_threads(1)


def _json(data: bytes) -> Response:
    return Response(data, media_type="application/json", headers={"cache-control": "no-store"})


def _file(page: dict[str, files.PageFile], name: str, known: str | None) -> Response:
    if name not in page:
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such file")
    return _tagged(page[name].data, page[name].media_type, page[name].tag, known)


def _tagged(data: bytes, media_type: str, tag: str, known: str | None) -> Response:
    headers = {"etag": f'"{tag}"', "cache-control": _ASK_AGAIN}
    if known is not None and tag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


def _answer_of(status: int, why: str) -> Response:
    headers = {"retry-after": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return JSONResponse({"error": " ".join(why.split())}, status, headers={"cache-control": "no-store", **headers})


async def _refused(_: Request, error: Exception) -> Response:
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return _answer_of(status, str(error))
    logging.getLogger(__name__).error("%s", error)
    return _answer_of(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


async def _not_understood(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer_of(HTTPStatus.BAD_REQUEST, misread.line_of(error.errors()))


async def _of_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer_of(error.status_code, str(error.detail))


async def _unforeseen(_: Request, error: Exception) -> Response:
    return _answer_of(HTTPStatus.INTERNAL_SERVER_ERROR, f"the server failed ({type(error).__name__}); its log says why")
