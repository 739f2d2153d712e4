"""The intake takes what a worker could send, and says at once what a worker would find later."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from postroom.gateway.directory import Directory, Room
from postroom.gateway.ids import time_ordered_id
from postroom.gateway.intake import Intake, Request
from postroom.letter.problems import Code, Rejected
from tests.gateway.stand_in import Board, catalog

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
GOOD = {"event_type": "shop.user.welcomed", "recipient": "ada@example.org", "data": {"name": "Ada"}}


@pytest.fixture
def intake() -> Intake:
    rooms = [Room("shop", "postroom.default.shop", catalog("shop.user.welcomed", "shop.order.paid"))]
    return Intake(lambda: Directory(rooms), Board(), lambda: NOW, lambda now: time_ordered_id(now, bytes(10)))


def body(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def codes(intake: Intake, request: Request) -> list[tuple[Code, str]]:
    with pytest.raises(Rejected) as rejected:
        intake.prepare(request)
    return [(problem.code, problem.field) for problem in rejected.value.problems]


def test_a_good_message_becomes_an_event_on_its_profiles_topic(intake: Intake) -> None:
    prepared = intake.prepare(Request(body(), id="order-7"))
    assert (prepared.id, prepared.profile, prepared.topic) == ("order-7", "shop", "postroom.default.shop")
    event = json.loads(prepared.value)
    assert event == {**GOOD, "message_id": "order-7", "timestamp": "2026-05-04T12:00:00.000+00:00"}


def test_a_message_without_an_id_gets_one_that_sorts_by_time(intake: Intake) -> None:
    made = UUID(intake.prepare(Request(body())).id)
    assert made.version == 7
    assert int(made.hex[:12], 16) == int(NOW.timestamp() * 1000)


def test_the_writers_own_timestamp_and_id_are_kept(intake: Intake) -> None:
    sent = body(message_id="m-1", timestamp="2026-05-04T11:00:00Z")
    event = json.loads(intake.prepare(Request(sent)).value)
    assert (event["message_id"], event["timestamp"]) == ("m-1", "2026-05-04T11:00:00Z")


def test_two_different_ids_for_one_message_are_refused(intake: Intake) -> None:
    assert codes(intake, Request(body(message_id="a"), id="b")) == [(Code.FIELD_INVALID, "message_id")]
    assert intake.prepare(Request(body(message_id="a"), id="a")).id == "a"


def test_a_missing_variable_is_refused_at_once(intake: Intake) -> None:
    assert codes(intake, Request(body(data={}))) == [(Code.VARIABLE_MISSING, "data.name")]


def test_an_unknown_event_type_is_refused_with_the_nearest_ones(intake: Intake) -> None:
    with pytest.raises(Rejected, match=r"there are: shop\.user\.welcomed") as rejected:
        intake.prepare(Request(body(event_type="shop.user.welcome")))
    assert rejected.value.code == Code.TEMPLATE_MISSING


@pytest.mark.parametrize(
    ("sent", "code", "field"),
    [
        (b"", Code.NOT_UTF8_JSON, "$"),
        (b"[1]", Code.FIELD_INVALID, "$"),
        (b'{"event_type": "a", "event_type": "b"}', Code.DUPLICATE_KEY, "$"),
        (b"[" * 100, Code.TOO_DEEP, "$"),
        (body(event_type=7), Code.FIELD_INVALID, "event_type"),
        (body(recipient="ada@example.org, bob@example.org"), Code.ONE_ADDRESS_PER_ITEM, "recipient"),
        (body(key=""), Code.FIELD_INVALID, "key"),
        (body(key=7), Code.FIELD_INVALID, "key"),
        (body(recipent="x"), Code.FIELD_UNKNOWN, "recipent"),
    ],
)
def test_what_a_worker_would_refuse_is_refused_here(
    intake: Intake, sent: bytes, code: Code, field: str
) -> None:
    assert (code, field) in codes(intake, Request(sent))


def test_a_message_without_an_event_type_is_told_so(intake: Intake) -> None:
    sent = json.dumps({"recipient": "ada@example.org", "data": {}}).encode()
    assert codes(intake, Request(sent)) == [(Code.FIELD_MISSING, "event_type")]


def test_letters_to_one_person_share_a_key_that_does_not_name_them(intake: Intake) -> None:
    first, second = (intake.prepare(Request(body(), id=name)) for name in ("a", "b"))
    assert first.key == second.key
    assert b"ada" not in first.key
    assert intake.prepare(Request(body(recipient="bob@example.org"))).key != first.key


def test_a_given_key_orders_letters_and_does_not_reach_the_event(intake: Intake) -> None:
    prepared = intake.prepare(Request(body(key="order-7")))
    assert prepared.key == b"order-7"
    assert "key" not in json.loads(prepared.value)


def test_an_event_type_of_two_profiles_needs_the_profile() -> None:
    rooms = [
        Room(name, f"postroom.default.{name}", catalog("shop.user.welcomed")) for name in ("crm", "shop")
    ]
    intake = Intake(lambda: Directory(rooms), Board(), lambda: NOW, lambda _: "id-1")
    with pytest.raises(Rejected, match="crm, shop"):
        intake.prepare(Request(body()))
    assert intake.prepare(Request(body(), profile="crm")).topic == "postroom.default.crm"
    with pytest.raises(Rejected, match="no profile is called warehouse"):
        intake.prepare(Request(body(), profile="warehouse"))


@pytest.mark.parametrize("profile", [None, "shop"])
def test_without_any_profile_the_refusal_names_what_was_sent_and_the_way_out(profile: str | None) -> None:
    with pytest.raises(Rejected, match="Add an SmtpProfile") as rejected:
        Directory().find("shop.user.welcomed", profile)
    (problem,) = rejected.value.problems
    assert problem.field == "event_type"
    assert "None" not in problem.message


def test_a_suspended_template_takes_nothing() -> None:
    rooms = [Room("shop", "t", catalog("shop.user.welcomed", suspended=True))]
    intake = Intake(lambda: Directory(rooms), Board(), lambda: NOW, lambda _: "id-1")
    assert codes(intake, Request(body())) == [(Code.TEMPLATE_SUSPENDED, "event_type")]
