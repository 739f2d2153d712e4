"""The gateway's HTTP surface: routes in, answers out; the work is the intake's.

`POST /v1/messages` answers 202 once the broker has acknowledged, and problem details (RFC 9457) for
everything else. `GET /v1/messages/{id}` says what became of one where there is a ledger to look in; only
then the 202 has a Location. `/healthz` says that the process lives, `/readyz` that a message would be
accepted now. No CORS is granted and only application/json is read, so that a foreign web page can send
nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from postroom.gateway import intake, openapi
from postroom.gateway.intake import Intake, Prepared
from postroom.gateway.meter import CONTENT_TYPE, Meter
from postroom.gateway.problem import Refusal, as_response, refused
from postroom.gateway.publish import NotAccepted, TooLarge
from postroom.gateway.repeats import Repeats
from postroom.gateway.status import Letters
from postroom.letter.problems import Rejected

RETRY_AFTER_SECONDS = 2
BODY_SECONDS = 60.0
"""How long a request's body may take to arrive."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes work with."""

    intake: Intake
    meter: Meter
    ready: Callable[[], Awaitable[str | None]]
    """None when a message would be accepted now, else the reason why not."""
    letters: Letters | None = None
    """Where letters are looked up; None where this gateway has no ledger to look in."""
    repeats: Repeats = field(default_factory=Repeats)
    body_seconds: float = BODY_SECONDS


def build(desk: Desk) -> FastAPI:
    """The application around a desk."""
    app = FastAPI(
        title="Postroom gateway",
        version=version("postroom"),
        docs_url=None,
        redoc_url=None,
        description="Hand in a message over HTTP; it becomes an event on the profile's topic.",
    )
    app.state.desk = desk
    app.add_exception_handler(Refusal, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_api_route(
        "/v1/messages",
        post_message,
        methods=["POST"],
        status_code=202,
        tags=["messages"],
        summary="Hand in one message",
        responses=openapi.RESPONSES,
        openapi_extra=openapi.EXTRA,
    )
    if desk.letters is not None:
        app.add_api_route(
            "/v1/messages/{message_id:path}",
            get_message,
            tags=["messages"],
            summary="What became of a message",
            responses=openapi.STATUS_RESPONSES,
        )
    app.add_api_route("/healthz", healthz, tags=["operations"], summary="The process lives")
    app.add_api_route("/readyz", readyz, tags=["operations"], summary="A message would be accepted now")
    app.add_api_route("/metrics", metrics, tags=["operations"], summary="Figures for Prometheus")
    return app


async def post_message(
    request: Request,
    idempotency_key: Annotated[str | None, Header(description="The message's identity.")] = None,
    profile: Annotated[str | None, Query(description="Where several profiles serve the event type.")] = None,
) -> JSONResponse:
    """Accept one message: proved now, acknowledged by the broker, sent by a worker."""
    desk: Desk = request.app.state.desk
    _demand_json(request)
    body = await _read(request, desk.body_seconds)
    prepared = _prepare(desk, intake.Request(body, _unquoted(idempotency_key), profile))
    with desk.repeats.admitted(prepared.identity, prepared.content):
        await _accept(desk, prepared)
    known = desk.letters is not None
    headers = {"Location": f"/v1/messages/{quote(prepared.id, safe='')}"} if known else {}
    return JSONResponse({"id": prepared.id, "profile": prepared.profile}, 202, headers)


async def get_message(request: Request, message_id: str) -> JSONResponse:
    """The letters of a message id; 404 until a worker has taken it."""
    letters = request.app.state.desk.letters
    found = await asyncio.to_thread(letters.find, message_id)
    if not found:
        raise Refusal(404, f"no letter of {message_id} is on record; it is once a worker has taken its event")
    return JSONResponse({"id": message_id, "letters": [letter.to_json() for letter in found]})


async def healthz() -> dict[str, str]:
    """Always ok: a process that cannot answer is restarted."""
    return {"status": "ok"}


async def readyz(request: Request) -> Response:
    """503 with the reason while messages cannot be accepted."""
    reason = await request.app.state.desk.ready()
    if reason is not None:
        raise Refusal(503, reason, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    return Response(request.app.state.desk.meter.exposition(), media_type=CONTENT_TYPE)


def _prepare(desk: Desk, request: intake.Request) -> Prepared:
    try:
        return desk.intake.prepare(request)
    except Rejected as rejected:
        desk.meter.messages.labels("", str(rejected.code)).inc()
        raise refused(rejected.problems) from None


async def _accept(desk: Desk, prepared: Prepared) -> None:
    try:
        with desk.meter.acknowledged.time():
            await desk.intake.accept(prepared)
    except TooLarge as reason:
        desk.meter.messages.labels(prepared.profile, "too_large").inc()
        raise Refusal(413, str(reason)) from None
    except NotAccepted as reason:
        desk.meter.messages.labels(prepared.profile, "unavailable").inc()
        detail = f"{reason}; repeat the request with Idempotency-Key: {prepared.id}"
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise Refusal(503, detail, headers=headers, id=prepared.id) from None
    desk.meter.messages.labels(prepared.profile, "accepted").inc()


GIVEN_UP = {"Connection": "close"}
"""The rest of the body is not read."""


def _demand_json(request: Request) -> None:
    given = request.headers.get("content-type", "")
    media, _, parameters = given.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media.strip().lower() != "application/json" or charset not in {"", "utf-8"}:
        raise Refusal(415, f"send application/json in UTF-8, not {given or 'a body without Content-Type'}")


async def _read(request: Request, seconds: float) -> bytes:
    """The body, given up as soon as it is over the limit, or takes too long."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > intake.MAX_BODY:
                    said = f"the body is over {intake.MAX_BODY:,} bytes; link to large files instead"
                    raise Refusal(413, said, headers=GIVEN_UP)
    except TimeoutError:
        said = f"the body took longer than {seconds:g} s to arrive; send it in one go"
        raise Refusal(408, said, headers=GIVEN_UP) from None
    return bytes(body)


def _unquoted(key: str | None) -> str | None:
    """The header's value; the quotes of a structured field (RFC 8941) are not part of the id."""
    if key and len(key) > 1 and key[0] == key[-1] == '"':
        return key[1:-1]
    return key


async def _answer_refusal(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return as_response(refusal)


async def _answer_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers: Any = error.headers
    return as_response(Refusal(error.status_code, str(error.detail), headers=headers))
