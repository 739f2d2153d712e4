"""Which notifications a letter causes, and which fields they omit."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.identity import Identity
from postroom.letter.status_events import ALL_STATUSES, ledger_state, ledger_states, status_event_source
from postroom.policy.notifications import build_payload, notification_id, notification_rule
from postroom.ports.ledger import State
from postroom.ports.notifications import TOPIC, LetterTransition
from tests.delivery.letters import NOON, PROFILE

WHO = Identity(PROFILE, "kafka://postroom.shop.orders", "order-4711", "ada@example.net")
FATE = LetterTransition(
    7, WHO, "shop.order.placed", State.ACCEPTED, NOON, attempts=1, reply="250 2.0.0 queued as 4711"
)
REFUSED = replace(FATE, state=State.FAILED, code="relay_refused", reply="550 5.1.1 <ada@example.net> unknown")


def test_each_is_told_what_it_asked_for_under_one_id() -> None:
    tell = notification_rule({TOPIC: ledger_states(["Accepted", "Failed"]), "crm": ledger_states(["Failed"])})
    assert [one.destination for one in tell(FATE)] == [TOPIC]
    topic, crm = tell(REFUSED)
    assert (topic.destination, crm.destination) == (TOPIC, "crm")
    assert topic.id == crm.id == notification_id(REFUSED)
    assert (topic.type, topic.key, topic.letter) == ("dev.postroom.letter.failed", "order-4711", 7)
    assert tell(replace(FATE, state=State.EXPIRED)) == ()


def test_what_is_told_finds_the_letter_again() -> None:
    fate = replace(
        FATE,
        state=State.DEFERRED,
        code="relay_deferred",
        reply="451 4.7.1 come back later",
        due=NOON + timedelta(minutes=5),
        template="order",
        revision="0123456789ab",
        message_id="<1@example.com>",
        user_id="u-1",
        request_id="r-1",
        metadata={"tenant": "north"},
    )
    assert build_payload(fate) == {
        "state": "deferred",
        "profile": PROFILE,
        "event": {
            "source": "kafka://postroom.shop.orders",
            "id": "order-4711",
            "type": "shop.order.placed",
            "user_id": "u-1",
            "request_id": "r-1",
            "metadata": {"tenant": "north"},
        },
        "template": "order",
        "revision": "0123456789ab",
        "message_id": "<1@example.com>",
        "attempts": 1,
        "next_attempt": "2026-11-23T12:05:00.000Z",
        "problem": "relay_deferred",
        "smtp": {"code": 451, "enhanced": "4.7.1"},
    }


@pytest.mark.parametrize(
    ("reply", "smtp"),
    [
        ("550 5.1.1 no such user", {"code": 550, "enhanced": "5.1.1"}),
        ("421 closing", {"code": 421}),
        ("550 5.1.1", {"code": 550, "enhanced": "5.1.1"}),
        ("550 5.1.1234 odd", {"code": 550}),
        ("", None),
    ],
)
def test_of_a_reply_its_codes_are_told(reply: str, smtp: dict[str, Any] | None) -> None:
    assert build_payload(replace(REFUSED, reply=reply)).get("smtp") == smtp


@given(st.sampled_from(list(State)), st.text(max_size=40))
def test_nobody_is_told_the_recipient(state: State, text: str) -> None:
    reply = f"550 5.1.1 <ada@example.net> {text}"
    assert "ada" not in json.dumps(
        build_payload(replace(FATE, state=state, code="relay_refused", reply=reply))
    )


def test_a_letter_that_arrived_in_the_end_has_no_problem() -> None:
    assert "problem" not in build_payload(replace(FATE, code="relay_deferred"))


def test_two_changes_of_a_letter_have_two_ids_and_one_change_has_one() -> None:
    ids = {notification_id(replace(FATE, state=state)) for state in State}
    assert len(ids) == len(State)
    assert notification_id(replace(FATE, at=NOON + timedelta(milliseconds=1))) not in ids
    assert notification_id(replace(FATE, attempts=9, reply="")) in ids


def test_everything_that_can_be_told_is_a_state_of_the_ledger() -> None:
    notified = {State(ledger_state(what)) for what in ALL_STATUSES}
    assert notified == set(State) - {State.CLAIMED, State.SENDING}
    assert status_event_source("shop/orders") == "/namespaces/shop/smtpprofiles/orders"
