"""The HTTP surface of the gateway: routes, their OpenAPI schemas, and the metrics.

`POST /v1/messages` answers 202 after the broker's acknowledgement, and a problem document (RFC 9457) for
every error. `GET /v1/messages/{id}` answers with the state of the message's letters; it exists, and the 202
carries a Location, only where the gateway can read a ledger. `/healthz` answers while the process runs,
`/readyz` answers 200 while a message would be accepted, `/metrics` serves Prometheus.

No CORS header is sent and only application/json is accepted, so that a foreign web page cannot send messages.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, Protocol
from urllib.parse import quote

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from postroom.gateway import intake
from postroom.gateway.idempotency import IdempotencyCache
from postroom.gateway.intake import MessageIntake, PreparedMessage
from postroom.gateway.publisher import MessageTooLarge, PublishFailed
from postroom.http.host_guard import HostGuard
from postroom.http.problems import HttpProblem, add_problem_handler
from postroom.letter.problems import Rejected

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RETRY_AFTER_SECONDS = 2
BODY_TIMEOUT_SECONDS = 60.0
"""Seconds for the body of a request."""
CLOSE_CONNECTION = {"Connection": "close"}
"""Header of a response that is sent before the whole body was read."""


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """One attempt to send a letter; `code` and `text` are the relay's reply."""

    at: datetime
    result: str
    stage: str | None
    code: int | None
    text: str | None
    relay: str | None = None
    """The fallback profile whose relay was used; None for the letter's own profile and for no relay."""


@dataclass(frozen=True, slots=True)
class LetterStatus:
    """The state of one letter in the ledger (docs: ledger states), without personal data."""

    id: str
    profile: str
    event_type: str
    state: str
    code: str | None
    reason: str | None
    template: str | None
    revision: str | None
    message_id: str | None
    received: datetime
    updated: datetime
    due: datetime | None
    in_doubt_count: int
    attempts: tuple[AttemptStatus, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; times are RFC 3339."""
        values = asdict(self)
        values["attempts"] = [_json_values(attempt) for attempt in values["attempts"]]
        return _json_values(values)


def _json_values(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()
    }


class StatusReader(Protocol):
    """Looks up letters by message id; implemented over the ledgers in gateway/main.py."""

    def find(self, message_id: str) -> list[LetterStatus]:
        """The letters of a message id, oldest first: at most one for each profile. May block."""
        ...


class GatewayMetrics:
    """The counters of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.messages = Counter(
            "postroom_gateway_messages",
            "Messages by result: accepted, a problem code, too_large or unavailable.",
            ["profile", "result"],
            registry=self._registry,
        )
        self.ack_seconds = Histogram(
            "postroom_gateway_ack_seconds",
            "Seconds from a valid message to the broker's acknowledgement.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes work with."""

    intake: MessageIntake
    metrics: GatewayMetrics
    unready_reason: Callable[[], Awaitable[str | None]]
    """Returns None while a message would be accepted, else the reason why not."""
    status_reader: StatusReader | None = None
    """None where the gateway can read no ledger."""
    idempotency: IdempotencyCache = field(default_factory=IdempotencyCache)
    body_timeout: float = BODY_TIMEOUT_SECONDS


# --- OpenAPI -------------------------------------------------------------------------------------
# The body is read by the strict JSON parser and not by a model, so that its schema is written here.

_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}

MESSAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["event_type", "recipient", "data"],
    "properties": {
        "event_type": {**_TEXT, "description": "The type of the event; a live template must list it."},
        "recipient": {**_TEXT, "description": "One address without a display name."},
        "data": {"type": "object", "description": "The template's variables."},
        "message_id": {
            **_TEXT,
            "description": "The message's identity; the Idempotency-Key header also sets it.",
        },
        "timestamp": {**_TIME, "description": "The time of the event; default: the time of arrival."},
        "key": {
            **_TEXT,
            "description": "Letters with the same ordering key are sent in order; default: the recipient.",
        },
        "locale": {**_TEXT, "description": "Language tag (BCP 47), for instance de-AT."},
        "not_before": {**_TIME, "description": "The letter is not sent before this time."},
        "expires_at": {**_TIME, "description": "The letter is not sent after this time."},
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
                        "description": "The name in the HTML: cid:logo refers to logo.",
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
        "id": {**_TEXT, "description": "With 503: repeat the request with this Idempotency-Key."},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"code": _TEXT, "pointer": _TEXT, "detail": _TEXT}},
        },
    },
}


def _problem_response(description: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": PROBLEM_SCHEMA}}
    return {"description": description, "content": content}


POST_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The broker has acknowledged the message; a worker will send the letter.",
        "headers": {"Location": {"schema": _TEXT, "description": "Where to look up the letter's state."}},
    },
    408: _problem_response("The body took too long to arrive."),
    409: _problem_response("Another request is publishing a message with this id."),
    413: _problem_response("The body is too large."),
    415: _problem_response("The body is not application/json."),
    422: _problem_response("The message breaks a rule; `errors` names each field."),
    503: _problem_response("The broker did not acknowledge in time; repeat the request with the same id."),
}
GET_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The letters of this message id, one for each profile, with their attempts."},
    404: _problem_response("No ledger has a letter of this message id yet."),
}
POST_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": MESSAGE_SCHEMA}}}
}


# --- routes --------------------------------------------------------------------------------------


def create_gateway_app(services: Services, allowed_hosts: Iterable[str] = ()) -> FastAPI:
    """Make the ASGI application; `allowed_hosts` are further names that it may be called by."""
    app = FastAPI(
        title="Postroom gateway",
        version=version("postroom"),
        docs_url=None,
        redoc_url=None,
        description="Send a message over HTTP; it becomes an event on the profile's topic.",
    )
    app.state.services = services
    add_problem_handler(app)
    app.add_middleware(
        HostGuard,
        allowed_hosts=frozenset(allowed_hosts),
        server="gateway",
        setting="POSTROOM_GATEWAY_ALLOWED_HOSTS",
    )
    app.add_api_route(
        "/v1/messages",
        post_message,
        methods=["POST"],
        status_code=202,
        tags=["messages"],
        summary="Send a message",
        responses=POST_RESPONSES,
        openapi_extra=POST_REQUEST_BODY,
    )
    if services.status_reader is not None:
        app.add_api_route(
            "/v1/messages/{message_id:path}",
            get_message,
            tags=["messages"],
            summary="Look up the state of a message",
            responses=GET_RESPONSES,
        )
    app.add_api_route("/healthz", healthz, tags=["operations"], summary="Liveness")
    app.add_api_route("/readyz", readyz, tags=["operations"], summary="Readiness")
    app.add_api_route("/metrics", metrics, tags=["operations"], summary="Metrics for Prometheus")
    return app


async def post_message(
    request: Request,
    idempotency_key: Annotated[str | None, Header(description="The message's id.")] = None,
    profile: Annotated[
        str | None, Query(description="Required when several profiles serve the event type.")
    ] = None,
) -> JSONResponse:
    """Accept one message: validate it, publish it and wait for the broker's acknowledgement."""
    services: Services = request.app.state.services
    _require_json(request)
    body = await _read_body(request, services.body_timeout)
    prepared = _prepare(services, intake.MessageRequest(body, _unquote_key(idempotency_key), profile))
    with services.idempotency.reserve(prepared.identity, prepared.content):
        await _publish(services, prepared)
    has_status = services.status_reader is not None
    headers = {"Location": f"/v1/messages/{quote(prepared.id, safe='')}"} if has_status else {}
    return JSONResponse({"id": prepared.id, "profile": prepared.profile}, 202, headers)


async def get_message(request: Request, message_id: str) -> JSONResponse:
    """The letters of a message id with their attempts; 404 until a worker has consumed the event."""
    status_reader = request.app.state.services.status_reader
    letters = await asyncio.to_thread(status_reader.find, message_id)
    if not letters:
        detail = f"no ledger has a letter of {message_id}; it appears once a worker has consumed the event"
        raise HttpProblem(404, detail)
    return JSONResponse({"id": message_id, "letters": [letter.to_json() for letter in letters]})


async def healthz() -> dict[str, str]:
    """Always ok while the process answers; the platform restarts one that does not."""
    return {"status": "ok"}


async def readyz(request: Request) -> Response:
    """Ready, or 503 with the reason while messages cannot be accepted."""
    reason = await request.app.state.services.unready_reason()
    if reason is not None:
        raise HttpProblem(503, reason, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(request.app.state.services.metrics.exposition(), media_type=METRICS_CONTENT_TYPE)


def _prepare(services: Services, request: intake.MessageRequest) -> PreparedMessage:
    try:
        return services.intake.prepare(request)
    except Rejected as rejected:
        services.metrics.messages.labels("", str(rejected.code)).inc()
        raise


async def _publish(services: Services, prepared: PreparedMessage) -> None:
    try:
        with services.metrics.ack_seconds.time():
            await services.intake.publish(prepared)
    except MessageTooLarge as error:
        services.metrics.messages.labels(prepared.profile, "too_large").inc()
        raise HttpProblem(413, str(error)) from None
    except PublishFailed as error:
        services.metrics.messages.labels(prepared.profile, "unavailable").inc()
        detail = f"{error}; repeat the request with Idempotency-Key: {prepared.id}"
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise HttpProblem(503, detail, headers=headers, id=prepared.id) from None
    services.metrics.messages.labels(prepared.profile, "accepted").inc()


def _require_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in {"", "utf-8"}:
        found = content_type or "a body without Content-Type"
        raise HttpProblem(415, f"send application/json in UTF-8, not {found}")


async def _read_body(request: Request, seconds: float) -> bytes:
    """The body of a request; raises HttpProblem as soon as it is over the size or time limit."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > intake.MAX_BODY_BYTES:
                    detail = f"the body is over {intake.MAX_BODY_BYTES:,} bytes; link to large files instead"
                    raise HttpProblem(413, detail, headers=CLOSE_CONNECTION)
    except TimeoutError:
        detail = f"the body took longer than {seconds:g} s to arrive; send it without pauses"
        raise HttpProblem(408, detail, headers=CLOSE_CONNECTION) from None
    return bytes(body)


def _unquote_key(key: str | None) -> str | None:
    """The value of the Idempotency-Key header; the quotes of a structured field (RFC 8941) are removed."""
    if key and len(key) > 1 and key[0] == key[-1] == '"':
        return key[1:-1]
    return key
