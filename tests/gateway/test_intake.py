"""The intake accepts what a worker could send, and refuses at once what a worker would refuse later."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from postroom.gateway.intake import MessageIntake, MessageRequest, uuid7
from postroom.gateway.profiles import ProfileEntry, ProfileRouter
from postroom.letter.problems import Code, Rejected
from tests.gateway.fakes import FakePublisher, catalog

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
GOOD = {"event_type": "shop.user.welcomed", "recipient": "ada@example.org", "data": {"name": "Ada"}}


@pytest.fixture
def intake() -> MessageIntake:
    entries = [
        ProfileEntry("shop", "postroom.default.shop", catalog("shop.user.welcomed", "shop.order.paid"))
    ]
    return MessageIntake(
        lambda: ProfileRouter(entries), FakePublisher(), lambda: NOW, lambda now: uuid7(now, bytes(10))
    )


def body(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def codes(intake: MessageIntake, request: MessageRequest) -> list[tuple[Code, str]]:
    with pytest.raises(Rejected) as rejected:
        intake.prepare(request)
    return [(problem.code, problem.field) for problem in rejected.value.problems]


def test_a_good_message_becomes_an_event_on_its_profiles_topic(intake: MessageIntake) -> None:
    prepared = intake.prepare(MessageRequest(body(), id="order-7"))
    assert (prepared.id, prepared.profile, prepared.topic) == ("order-7", "shop", "postroom.default.shop")
    event = json.loads(prepared.value)
    assert event == {**GOOD, "message_id": "order-7", "timestamp": "2026-05-04T12:00:00.000+00:00"}


def test_a_message_without_an_id_gets_one_that_sorts_by_time(intake: MessageIntake) -> None:
    generated = UUID(intake.prepare(MessageRequest(body())).id)
    assert generated.version == 7
    assert int(generated.hex[:12], 16) == int(NOW.timestamp() * 1000)


def test_a_given_timestamp_and_id_are_kept(intake: MessageIntake) -> None:
    sent = body(message_id="m-1", timestamp="2026-05-04T11:00:00Z")
    event = json.loads(intake.prepare(MessageRequest(sent)).value)
    assert (event["message_id"], event["timestamp"]) == ("m-1", "2026-05-04T11:00:00Z")


def test_two_different_ids_for_one_message_are_refused(intake: MessageIntake) -> None:
    assert codes(intake, MessageRequest(body(message_id="a"), id="b")) == [(Code.FIELD_INVALID, "message_id")]
    assert intake.prepare(MessageRequest(body(message_id="a"), id="a")).id == "a"


def test_a_missing_variable_is_refused_at_once(intake: MessageIntake) -> None:
    assert codes(intake, MessageRequest(body(data={}))) == [(Code.VARIABLE_MISSING, "data.name")]


def test_an_unknown_event_type_is_refused_with_the_nearest_ones(intake: MessageIntake) -> None:
    with pytest.raises(Rejected, match=r"there are: shop\.user\.welcomed") as rejected:
        intake.prepare(MessageRequest(body(event_type="shop.user.welcome")))
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
def test_what_a_worker_would_refuse_is_refused_at_once(
    intake: MessageIntake, sent: bytes, code: Code, field: str
) -> None:
    assert (code, field) in codes(intake, MessageRequest(sent))


def test_a_message_without_an_event_type_is_refused(intake: MessageIntake) -> None:
    sent = json.dumps({"recipient": "ada@example.org", "data": {}}).encode()
    assert codes(intake, MessageRequest(sent)) == [(Code.FIELD_MISSING, "event_type")]


def test_letters_to_one_recipient_share_a_key_that_hides_the_address(intake: MessageIntake) -> None:
    first, second = (intake.prepare(MessageRequest(body(), id=name)) for name in ("a", "b"))
    assert first.key == second.key
    assert b"ada" not in first.key
    assert intake.prepare(MessageRequest(body(recipient="bob@example.org"))).key != first.key


def test_a_given_key_becomes_the_record_key_and_is_not_in_the_event(intake: MessageIntake) -> None:
    prepared = intake.prepare(MessageRequest(body(key="order-7")))
    assert prepared.key == b"order-7"
    assert "key" not in json.loads(prepared.value)


def test_an_event_type_of_two_profiles_needs_the_profile() -> None:
    entries = [
        ProfileEntry(name, f"postroom.default.{name}", catalog("shop.user.welcomed"))
        for name in ("crm", "shop")
    ]
    intake = MessageIntake(lambda: ProfileRouter(entries), FakePublisher(), lambda: NOW, lambda _: "id-1")
    with pytest.raises(Rejected, match="crm, shop"):
        intake.prepare(MessageRequest(body()))
    assert intake.prepare(MessageRequest(body(), profile="crm")).topic == "postroom.default.crm"
    with pytest.raises(Rejected, match="no profile is called warehouse"):
        intake.prepare(MessageRequest(body(), profile="warehouse"))


@pytest.mark.parametrize("profile", [None, "shop"])
def test_without_any_profile_the_refusal_names_what_was_sent_and_the_way_out(profile: str | None) -> None:
    with pytest.raises(Rejected, match="Add an SmtpProfile") as rejected:
        ProfileRouter().find("shop.user.welcomed", profile)
    (problem,) = rejected.value.problems
    assert problem.field == "event_type"
    assert "None" not in problem.message


def test_a_suspended_template_accepts_no_message() -> None:
    entries = [ProfileEntry("shop", "t", catalog("shop.user.welcomed", suspended=True))]
    intake = MessageIntake(lambda: ProfileRouter(entries), FakePublisher(), lambda: NOW, lambda _: "id-1")
    assert codes(intake, MessageRequest(body())) == [(Code.TEMPLATE_SUSPENDED, "event_type")]
