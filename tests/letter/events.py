"""Events for tests: each envelope once, complete; a test overrides members."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from postroom.letter.event import Event, Record, parse_event
from postroom.letter.problems import Code, Problem, Rejected

TIME = datetime(2026, 11, 23, 20, 15, 30, tzinfo=UTC)
ENVELOPE: dict[str, Any] = {
    "message_id": "order-17",
    "event_type": "shop.order.paid",
    "timestamp": "2026-11-23T20:15:30Z",
    "recipient": "Zoe@EXAMPLE.org",
    "data": {"name": "Zoë"},
}
FILE = {"filename": "receipt.pdf", "content_type": "application/pdf", "content": "aGVsbG8="}
HEADERS = {
    "ce_specversion": "1.0",
    "ce_id": "order-17",
    "ce_source": "/shop",
    "ce_type": "shop.order.paid",
    "ce_recipient": "zoe@example.org",
    "content-type": "application/json",
}
STRUCTURED = {
    "specversion": "1.0",
    "id": "order-17",
    "source": "/shop",
    "type": "shop.order.paid",
    "recipient": "zoe@example.org",
    "data": {"name": "Zoë"},
}
CLOUD_JSON = {"content-type": "application/cloudevents+json; charset=UTF-8"}


def record(value: Any, headers: dict[str, str] | None = None) -> Record:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    pairs = tuple((name, text.encode()) for name, text in (headers or {}).items())
    return Record("postroom.shop.shop", 0, 7, TIME, None, content, pairs)


def plain(**changes: Any) -> Event:
    return parse_event(record({**ENVELOPE, **changes}))


def problems(value: Any, headers: dict[str, str] | None = None) -> list[tuple[Code, str]]:
    return [(problem.code, problem.field) for problem in refusals(value, headers)]


def refusals(value: Any, headers: dict[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(Rejected) as caught:
        parse_event(record(value, headers))
    return caught.value.problems


def refused(**changes: Any) -> list[tuple[Code, str]]:
    return problems({**ENVELOPE, **changes})
