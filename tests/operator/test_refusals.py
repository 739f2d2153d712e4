"""What follows from each answer of an API server that is no success."""

from typing import Any

import pytest

from postroom_operator.adapters.refusals import refusal
from postroom_operator.cluster import Absent, Conflict, Ending, Refused, Unavailable

ASKED = "GET /api/v1/pods"
ENDING = {"message": "m", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, None, Refused),
        (401, None, Unavailable),  # a token that is exchanged just now
        (403, {"message": "quota"}, Refused),
        (403, ENDING, Ending),
        (404, None, Absent),
        (409, None, Conflict),
        (410, None, Absent),
        (422, {"message": "m", "details": None}, Refused),
        (429, None, Unavailable),
        (500, "no object", Unavailable),
        (503, [], Unavailable),
    ],
)
def test_each_status_says_what_follows(status: int, body: Any, kind: type[Exception]) -> None:
    found = refusal(ASKED, status, body, {})
    assert type(found) is kind
    assert found.status == status


def test_an_answer_without_words_says_what_was_asked() -> None:
    found = refusal(ASKED, 404, None, {})
    assert found.message == "the API server answered 404 to GET /api/v1/pods"
    assert refusal(ASKED, 404, {"message": "pods not found"}, {}).message == "pods not found"


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({}, {"details": {"retryAfterSeconds": 3}}, 3.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, None),
        ({}, None, None),
    ],
)
def test_how_long_the_server_asks_us_to_wait(headers: Any, body: Any, seconds: float | None) -> None:
    assert refusal(ASKED, 429, body, headers).retry_after == seconds
