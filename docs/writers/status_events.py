"""The page of status events: the events, their members, and an example on Kafka."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from postroom.letter.identity import Identity
from postroom.letter.status_events import (
    ALL_STATUSES,
    ledger_state,
    rfc3339,
    status_event_source,
    status_event_type,
)
from postroom.policy.notifications import build_payload, notification_id
from postroom.ports.ledger import State
from postroom.ports.notifications import LetterTransition
from writers.tables import Words, table

AT = datetime(2026, 11, 23, 9, 30, 1, 250_000, UTC)
FATE = LetterTransition(
    row=0x19ABF2C4D5E0001,
    identity=Identity("shop/orders", "/shop/checkout", "order-4711", "ada@example.org"),
    event_type="shop.order.placed",
    state=State.DEFERRED,
    at=AT,
    attempts=2,
    code="relay_deferred",
    reply="451 4.7.1 try again later",
    due=AT + timedelta(seconds=20),
    template="order-placed",
    revision="9f3c0a7b12de",
    message_id="<5c1d0c1f8a7e4b6f9d20aa31bb42cc53dd64ee75@larkfield.example>",
    user_id="u-17",
    request_id="req-99",
    metadata={"tenant": "north"},
)
REPORT = {"kind": "failed", "status": "5.1.1"}


def status_events(words: Words) -> str:
    """Every event, every member, and the headers on Kafka."""
    data = build_payload(FATE)
    every = data | {"report": build_payload(replace(FATE, report=REPORT))["report"]}
    states = {what: ledger_state(what) for what in ALL_STATUSES}
    events = [
        (f"`{what}`", f"`{status_event_type(state)}`", words.of("states", state))
        for what, state in states.items()
    ]
    headers = {
        "ce_specversion": "1.0",
        "ce_id": notification_id(FATE),
        "ce_source": status_event_source(FATE.identity.profile),
        "ce_type": status_event_type(FATE.state.value),
        "ce_subject": FATE.identity.id,
        "ce_time": rfc3339(AT),
        "content-type": "application/json",
    }
    written = "\n".join(f"{name + ':':<16}{value}" for name, value in headers.items())
    return "\n".join(
        [
            "# Status events\n",
            INTRODUCTION,
            "## Events\n",
            table(("Name in the profile", "Type", "Meaning"), events),
            DEFERRED,
            "## On the status topic\n",
            TOPIC,
            f"```text\n{written}\n\n{json.dumps(data, indent=2)}\n```\n",
            "## Members\n",
            table(("Member", "Meaning"), members(every, words)),
            "A member without a value is absent. Later versions may add members. " + LEFT_OUT,
            "## Guarantees\n",
            PROMISE,
        ]
    )


def members(data: Mapping[str, Any], words: Words, path: str = "") -> list[tuple[str, str]]:
    """Every member of the data, those of objects with their path."""
    found: list[tuple[str, str]] = []
    for name, value in data.items():
        found.append((f"`{path}{name}`", words.of("status_event", f"{path}{name}")))
        if isinstance(value, dict) and name != "metadata":
            found += members(value, words, f"{path}{name}.")
    return found


INTRODUCTION = """\
Postroom publishes the state changes of letters on a Kafka topic beside the profile's own, when
`spec.kafka.statusEvents` of the [SmtpProfile](smtp-profile.md) lists them. By default the list is empty,
because each event costs a ledger row and a Kafka message.
"""
DEFERRED = """\
An event marks a change of state. Each attempt that ends in a deferral is an event. A letter that only
waits (for its template, its signing key or its scheduled time) produces one event.
"""
TOPIC = """\
The topic is `<topic>.status`; the records are CloudEvents 1.0 in binary mode. The record key is the id of
the event that the letter came from. The operator and `postroom up` create the topic with the partitions
and the retention of the profile's own topic. Any Kafka consumer can read it.
"""
LEFT_OUT = """\
Status events never contain the recipient, the event's `data`, or the text of the relay's reply, which
quotes addresses. `metadata`, `user_id` and `request_id` are copied as the publisher wrote them: write no
personal data into them, or restrict access to the topic. `postroom letter ID` shows the rest.
"""
PROMISE = """\
The ledger stores an event in the same commit as the state change and removes it after Kafka has
acknowledged it. Delivery is therefore at least once, with the same `ce_id` each time. The events of one
letter are published in order while one worker handles the letter. If a retry moves to another worker,
order by `ce_time`. `Accepted` means that the relay has taken responsibility. `Delivered` and `Bounced`
require a report that [came back](../how-to/take-bounces.md); without a report, Postroom cannot say
whether the letter reached the mailbox.
"""
