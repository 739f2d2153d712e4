"""The gateway's HTTP surface: 202 after the broker's acknowledgement, problems that name the field."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from postroom.clock import SystemClock
from postroom.gateway import app, intake
from postroom.gateway.app import (
    AttemptStatus,
    GatewayMetrics,
    LetterStatus,
    Services,
    create_gateway_app,
)
from postroom.gateway.idempotency import IdempotencyCache
from postroom.gateway.intake import MessageIntake, new_message_id
from postroom.gateway.profiles import ProfileEntry, ProfileRouter
from postroom.gateway.publisher import MessageTooLarge, PublishFailed
from postroom.letter.events.envelope import PLAIN_MEMBERS
from postroom.letter.problems import Rejected
from tests.gateway.fakes import FakePublisher, catalog

GOOD = {"event_type": "shop.user.welcomed", "recipient": "ada@example.org", "data": {"name": "Ada"}}


AT = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


class FakeStatusReader:
    """Finds one letter, under two ids."""

    def find(self, message_id: str) -> list[LetterStatus]:
        attempts = (AttemptStatus(AT, "captured", "end_of_data", 250, "stored"),)
        letter = LetterStatus(
            message_id, "default/shop", "shop.user.welcomed", "captured", None, None, "welcome",
            "0123456789ab", "<a@b>", AT, AT, None, 0, attempts,
        )  # fmt: skip
        return [letter] if message_id in {"order-7", "a/b c"} else []


class GatewayClient:
    """Calls the application in this process."""

    def __init__(self) -> None:
        self.publisher = FakePublisher()
        self.reason: str | None = None
        entries = [ProfileEntry("shop", "postroom.default.shop", catalog("shop.user.welcomed"))]
        intake = MessageIntake(
            lambda: ProfileRouter(entries), self.publisher, SystemClock().now, new_message_id
        )
        self.services = Services(intake, GatewayMetrics(), self._unready_reason, FakeStatusReader())
        self.app = create_gateway_app(self.services, {"gateway.example"})

    async def _unready_reason(self) -> str | None:
        return self.reason

    def __call__(self, method: str, path: str, host: str = "127.0.0.1:8080", **more: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())

    def post(self, json: Any = GOOD, **more: Any) -> httpx.Response:
        return self("POST", "/v1/messages", json=json, **more)


@pytest.fixture
def call() -> GatewayClient:
    return GatewayClient()


def test_a_good_message_is_accepted_after_the_brokers_ack(call: GatewayClient) -> None:
    answer = call.post(headers={"Idempotency-Key": '"order-7"'})
    assert answer.status_code == 202
    assert answer.json() == {"id": "order-7", "profile": "shop"}
    assert answer.headers["location"] == "/v1/messages/order-7"
    assert [topic for topic, _, _ in call.publisher.published] == ["postroom.default.shop"]


def test_an_id_beyond_ascii_is_refused(call: GatewayClient) -> None:
    answer = call.post(headers={"Idempotency-Key": "straße".encode()})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/message_id")


def test_a_message_id_is_escaped_in_its_location(call: GatewayClient) -> None:
    location = call.post(headers={"Idempotency-Key": "a/b c"}).headers["location"]
    assert location == "/v1/messages/a%2Fb%20c"
    assert call("GET", location).json()["id"] == "a/b c"


def test_the_state_of_a_message_comes_with_its_attempts(call: GatewayClient) -> None:
    answer = call("GET", "/v1/messages/order-7")
    assert answer.status_code == 200
    (letter,) = answer.json()["letters"]
    assert (letter["state"], letter["updated"]) == ("captured", "2026-05-04T12:00:00+00:00")
    assert letter["attempts"][0]["code"] == 250
    assert "recipient" not in letter


def test_a_message_that_no_worker_has_consumed_yet_is_404(call: GatewayClient) -> None:
    answer = call("GET", "/v1/messages/order-8")
    assert answer.status_code == 404
    assert "once a worker has consumed" in answer.json()["detail"]


def test_without_a_ledger_there_is_no_location() -> None:
    """A Location would lead to a route that does not exist."""
    call = GatewayClient()
    call.app = create_gateway_app(replace(call.services, status_reader=None))
    answer = call.post()
    assert (answer.status_code, "location" in answer.headers) == (202, False)
    assert call("GET", "/v1/messages/order-7").status_code == 404


def test_a_broken_rule_is_a_problem_document_with_a_pointer(call: GatewayClient) -> None:
    answer = call.post({**GOOD, "data": {}})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert problem["errors"] == [
        {"code": "variable_missing", "pointer": "/data/name", "detail": "is required"}
    ]
    assert call.publisher.published == []


def test_a_silent_broker_is_503_with_the_id_to_repeat(call: GatewayClient) -> None:
    call.publisher.failure = PublishFailed("the broker did not acknowledge in time")
    answer = call.post()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["id"] in answer.json()["detail"]


def test_the_same_id_with_another_body_is_refused_and_forgotten_where_nothing_was_accepted(
    call: GatewayClient,
) -> None:
    key, other = {"Idempotency-Key": "order-7"}, {**GOOD, "data": {"name": "Mallory"}}
    call.publisher.failure = PublishFailed("the broker did not acknowledge in time")
    assert call.post(headers=key).status_code == 503
    call.publisher.failure = None
    assert [call.post(headers=key).status_code for _ in range(2)] == [202, 202]
    answer = call.post(other, headers=key)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "idempotency_mismatch"
    assert call.post({**other, "recipient": "bob@example.org"}, headers=key).status_code == 202
    assert len(call.publisher.published) == 3


def test_the_idempotency_cache_keeps_the_most_recent_messages(call: GatewayClient) -> None:
    cache = IdempotencyCache(capacity=2)
    for name in (b"a", b"b", b"a", b"c"):
        with cache.reserve(name, b"content"):
            pass
    with cache.reserve(b"b", b"other"):
        pass  # the oldest was dropped
    with pytest.raises(Rejected), cache.reserve(b"c", b"other"):
        pass


def test_a_message_over_the_topics_limit_is_413(call: GatewayClient) -> None:
    call.publisher.failure = MessageTooLarge("the topic takes no message of this size")
    assert call.post().status_code == 413


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read(call: GatewayClient, media: str) -> None:
    """A web page can send other types across origins without a preflight request."""
    answer = call("POST", "/v1/messages", content=b"{}", headers={"content-type": media} if media else {})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_a_body_over_the_limit_is_given_up(call: GatewayClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_BODY_BYTES", 10)
    answer = call.post()
    assert answer.status_code == 413


def test_a_foreign_host_name_is_refused(call: GatewayClient) -> None:
    assert call.post(host="attacker.example").status_code == 421
    for allowed in ("localhost:8080", "gateway.example", "127.0.0.1", "[::1]:8080"):
        assert call("GET", "/healthz", host=allowed).status_code == 200


def test_liveness_and_readiness_differ(call: GatewayClient) -> None:
    assert call("GET", "/readyz").status_code == 200
    call.reason = "the broker does not answer"
    answer = call("GET", "/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the broker does not answer")
    assert call("GET", "/healthz").status_code == 200


def test_results_are_counted_under_the_problem_code(call: GatewayClient) -> None:
    call.post()
    call.post({**GOOD, "data": {}})
    exposition = call("GET", "/metrics").text
    assert 'postroom_gateway_messages_total{profile="shop",result="accepted"} 1.0' in exposition
    assert 'result="variable_missing"} 1.0' in exposition
    assert "postroom_gateway_ack_seconds_count 1.0" in exposition


def test_an_unknown_path_is_a_problem_document(call: GatewayClient) -> None:
    answer = call("GET", "/v2/messages")
    assert answer.status_code == 404
    assert answer.json()["title"] == "Not Found"
    assert call("PUT", "/v1/messages").status_code == 405


def test_the_openapi_document_lists_every_member_of_the_envelope(call: GatewayClient) -> None:
    document = call("GET", "/openapi.json").json()
    operation = document["paths"]["/v1/messages"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(PLAIN_MEMBERS) | {"key"}
    assert set(operation["responses"]) >= {str(status) for status in app.POST_RESPONSES}
