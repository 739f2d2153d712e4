"""The gateway's own figures, for Prometheus.

What the OpenAPI document says of the intake: the body is read by the strict parser, not by a model.

The gateway's HTTP surface: routes in, answers out; the work is the intake's.

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
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.exceptions import HTTPException

from postroom.gateway import intake
from postroom.gateway.idempotency import IdempotencyCache
from postroom.gateway.intake import MessageIntake, PreparedMessage
from postroom.gateway.problem import Refusal, as_response, refused
from postroom.gateway.publisher import MessageTooLarge, PublishFailed
from postroom.gateway.status import StatusReader
from postroom.letter.problems import Rejected

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class GatewayMetrics:
    """Counters of one gateway in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.messages = Counter(
            "postroom_gateway_messages",
            "Messages by what became of them: accepted, a problem code, or unavailable.",
            ["profile", "result"],
            registry=self._registry,
        )
        self.ack_seconds = Histogram(
            "postroom_gateway_ack_seconds",
            "Time from a good message to the broker's acknowledgement.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)


_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}

MESSAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["event_type", "recipient", "data"],
    "properties": {
        "event_type": {**_TEXT, "description": "What happened; a live template has to list it."},
        "recipient": {**_TEXT, "description": "One bare address."},
        "data": {"type": "object", "description": "The template's variables."},
        "message_id": {
            **_TEXT,
            "description": "The message's identity; the Idempotency-Key header also sets it.",
        },
        "timestamp": {**_TIME, "description": "When it happened; the time of arrival if left out."},
        "key": {
            **_TEXT,
            "description": "Letters with the same key are sent in order; default: the recipient.",
        },
        "locale": {**_TEXT, "description": "BCP 47 tag, for instance de-AT."},
        "not_before": {**_TIME, "description": "Not sent before."},
        "expires_at": {**_TIME, "description": "Not sent after."},
        "reply_to": _TEXT,
        "attachments": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["filename", "content_type", "content"],
                "properties": {
                    "filename": _TEXT,
                    "content_type": _TEXT,
                    "content": {**_TEXT, "contentEncoding": "base64"},
                    "content_id": {
                        **_TEXT,
                        "description": "What the HTML refers to it by: cid:logo for logo.",
                    },
                },
            },
        },
        "traceparent": {**_TEXT, "description": "W3C trace context."},
        "template_revision": {**_TEXT, "description": "Send only with this revision of the template."},
        "user_id": _TEXT,
        "request_id": _TEXT,
        "metadata": {"type": "object", "additionalProperties": _TEXT},
    },
}

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "id": {**_TEXT, "description": "With 503: repeat the request under this Idempotency-Key."},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"code": _TEXT, "pointer": _TEXT, "detail": _TEXT}},
        },
    },
}


def _problem_response(says: str) -> dict[str, Any]:
    return {"description": says, "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}}}


POST_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The broker has acknowledged the message; a worker makes the letter.",
        "headers": {"Location": {"schema": _TEXT, "description": "Where its letter can be looked up."}},
    },
    408: _problem_response("The body took too long to arrive."),
    409: _problem_response("A message with this id is being handed to the broker."),
    413: _problem_response("The body is too large."),
    415: _problem_response("The body is not application/json."),
    422: _problem_response("A rule is broken; `errors` names each field."),
    503: _problem_response("The broker did not acknowledge in time; repeat under the same id."),
}
GET_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The letters of this id, one for each profile that has it, with their attempts."},
    404: _problem_response("No letter of this id is on record yet."),
}
POST_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": MESSAGE_SCHEMA}}}
}


RETRY_AFTER_SECONDS = 2
BODY_TIMEOUT_SECONDS = 60.0
"""How long a request's body may take to arrive."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes work with."""

    intake: MessageIntake
    metrics: GatewayMetrics
    unready_reason: Callable[[], Awaitable[str | None]]
    """None when a message would be accepted now, else the reason why not."""
    status_reader: StatusReader | None = None
    """Where letters are looked up; None where this gateway has no ledger to look in."""
    idempotency: IdempotencyCache = field(default_factory=IdempotencyCache)
    body_timeout: float = BODY_TIMEOUT_SECONDS


def create_gateway_app(services: Services) -> FastAPI:
    """The application around a desk."""
    app = FastAPI(
        title="Postroom gateway",
        version=version("postroom"),
        docs_url=None,
        redoc_url=None,
        description="Hand in a message over HTTP; it becomes an event on the profile's topic.",
    )
    app.state.services = services
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_api_route(
        "/v1/messages",
        post_message,
        methods=["POST"],
        status_code=202,
        tags=["messages"],
        summary="Hand in one message",
        responses=POST_RESPONSES,
        openapi_extra=POST_REQUEST_BODY,
    )
    if services.status_reader is not None:
        app.add_api_route(
            "/v1/messages/{message_id:path}",
            get_message,
            tags=["messages"],
            summary="What became of a message",
            responses=GET_RESPONSES,
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
    services: Services = request.app.state.services
    _require_json(request)
    body = await _read_body(request, services.body_timeout)
    prepared = _prepare(services, intake.MessageRequest(body, _unquote_key(idempotency_key), profile))
    with services.idempotency.reserve(prepared.identity, prepared.content):
        await _accept(services, prepared)
    has_status = services.status_reader is not None
    headers = {"Location": f"/v1/messages/{quote(prepared.id, safe='')}"} if has_status else {}
    return JSONResponse({"id": prepared.id, "profile": prepared.profile}, 202, headers)


async def get_message(request: Request, message_id: str) -> JSONResponse:
    """The letters of a message id; 404 until a worker has taken it."""
    status_reader = request.app.state.services.status_reader
    found = await asyncio.to_thread(status_reader.find, message_id)
    if not found:
        raise Refusal(404, f"no letter of {message_id} is on record; it is once a worker has taken its event")
    return JSONResponse({"id": message_id, "letters": [letter.to_json() for letter in found]})


async def healthz() -> dict[str, str]:
    """Always ok: a process that cannot answer is restarted."""
    return {"status": "ok"}


async def readyz(request: Request) -> Response:
    """503 with the reason while messages cannot be accepted."""
    reason = await request.app.state.services.unready_reason()
    if reason is not None:
        raise Refusal(503, reason, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    return Response(request.app.state.services.metrics.exposition(), media_type=METRICS_CONTENT_TYPE)


def _prepare(services: Services, request: intake.MessageRequest) -> PreparedMessage:
    try:
        return services.intake.prepare(request)
    except Rejected as rejected:
        services.metrics.messages.labels("", str(rejected.code)).inc()
        raise refused(rejected.problems) from None


async def _accept(services: Services, prepared: PreparedMessage) -> None:
    try:
        with services.metrics.ack_seconds.time():
            await services.intake.accept(prepared)
    except MessageTooLarge as reason:
        services.metrics.messages.labels(prepared.profile, "too_large").inc()
        raise Refusal(413, str(reason)) from None
    except PublishFailed as reason:
        services.metrics.messages.labels(prepared.profile, "unavailable").inc()
        detail = f"{reason}; repeat the request with Idempotency-Key: {prepared.id}"
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise Refusal(503, detail, headers=headers, id=prepared.id) from None
    services.metrics.messages.labels(prepared.profile, "accepted").inc()


CLOSE_CONNECTION = {"Connection": "close"}
"""The rest of the body is not read."""


def _require_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    media, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media.strip().lower() != "application/json" or charset not in {"", "utf-8"}:
        raise Refusal(
            415, f"send application/json in UTF-8, not {content_type or 'a body without Content-Type'}"
        )


async def _read_body(request: Request, seconds: float) -> bytes:
    """The body, given up as soon as it is over the limit, or takes too long."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > intake.MAX_BODY_BYTES:
                    detail = f"the body is over {intake.MAX_BODY_BYTES:,} bytes; link to large files instead"
                    raise Refusal(413, detail, headers=CLOSE_CONNECTION)
    except TimeoutError:
        detail = f"the body took longer than {seconds:g} s to arrive; send it in one go"
        raise Refusal(408, detail, headers=CLOSE_CONNECTION) from None
    return bytes(body)


def _unquote_key(key: str | None) -> str | None:
    """The header's value; the quotes of a structured field (RFC 8941) are not part of the id."""
    if key and len(key) > 1 and key[0] == key[-1] == '"':
        return key[1:-1]
    return key


async def _on_refusal(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return as_response(refusal)


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers: Any = error.headers
    return as_response(Refusal(error.status_code, str(error.detail), headers=headers))
