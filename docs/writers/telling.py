"""The page of what is told of letters: the events that there are, their members, and one of each form."""

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


def telling(words: Words) -> str:
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
            "## What there is to tell\n",
            table(("In the profile", "Type", "What it says"), events),
            DEFERRED,
            "## On the status topic\n",
            TOPIC,
            f"```text\n{written}\n\n{json.dumps(data, indent=2)}\n```\n",
            "## Members\n",
            table(("Member", "What it says"), members(every, words)),
            "A member that is not known is not there; more may be added. " + LEFT_OUT,
            "## What is promised\n",
            PROMISE,
        ]
    )


def members(data: Mapping[str, Any], words: Words, path: str = "") -> list[tuple[str, str]]:
    """Every member of the data, those of objects with their path."""
    found: list[tuple[str, str]] = []
    for name, value in data.items():
        found.append((f"`{path}{name}`", words.of("told", f"{path}{name}")))
        if isinstance(value, dict) and name != "metadata":
            found += members(value, words, f"{path}{name}.")
    return found


INTRODUCTION = """\
What became of a letter is told to whoever asks for it: on a Kafka topic beside the profile's own, with
`spec.kafka.statusEvents` of the [SmtpProfile](smtp-profile.md). Nobody is told anything by default: each
event is a row in the ledger, a message and a disk's work more for every letter, and most topics of the kind
are read by nobody.
"""
DEFERRED = """\
Events are about changes. Each attempt that ends in a deferral is one; a letter that goes on waiting for its
template, its key or its time is told of once.
"""
TOPIC = """\
`<topic>.status`, CloudEvents 1.0 in binary mode. The key is the id of the event that the letter came from.
Another application's consumer reads it like any topic; the operator makes it with the partitions and the
retention of the profile's own, `postroom up` too.
"""
LEFT_OUT = """\
Left out on purpose: the recipient, the event's `data`, and the words of the relay, which quote addresses.
`metadata`, `user_id` and `request_id` are the publisher's own, as it wrote them; write nothing personal
there, or read the topic as you read the letters. `postroom letter ID` has the rest.
"""
PROMISE = """\
An event is written down in the same commit as what it tells, and cleared once Kafka has acknowledged it: at
least once, with the same `ce_id` each time. The events of one letter are published in the order in which
they happened, as long as one worker has it; where a retry moved to another worker, `ce_time` says what came
last. `Accepted` means that the relay is responsible now. `Delivered` and `Bounced` are said where a report
[came back](../how-to/take-bounces.md); without one, whether a mailbox took the letter is not known.
"""
