"""What the OpenAPI document says of the intake: the body is read by the strict parser, not by a model."""

from typing import Any

_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}

MESSAGE: dict[str, Any] = {
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

PROBLEM: dict[str, Any] = {
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


def _problem(says: str) -> dict[str, Any]:
    return {"description": says, "content": {"application/problem+json": {"schema": PROBLEM}}}


RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The broker has acknowledged the message; a worker makes the letter.",
        "headers": {"Location": {"schema": _TEXT, "description": "Where its letter can be looked up."}},
    },
    408: _problem("The body took too long to arrive."),
    409: _problem("A message with this id is being handed to the broker."),
    413: _problem("The body is too large."),
    415: _problem("The body is not application/json."),
    422: _problem("A rule is broken; `errors` names each field."),
    503: _problem("The broker did not acknowledge in time; repeat under the same id."),
}
STATUS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The letters of this id, one for each profile that has it, with their attempts."},
    404: _problem("No letter of this id is on record yet."),
}
EXTRA: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": MESSAGE}}}
}
