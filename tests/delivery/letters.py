"""Records and letters as the tests of delivery need them."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from postroom.delivery.context import DeliveryPolicy
from postroom.delivery.parse import parse_record
from postroom.letter.catalog import SenderMailbox
from postroom.letter.event import REPLAY_HEADER, Record
from postroom.policy.retry import RetryPolicy
from postroom.ports.ledger import Attempt, Claimed, DeadLetter, Letter, Settlement, State
from postroom.ports.relay import Envelope, Reply, Stage

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TOPIC = "postroom.shop.orders"
PROFILE = "shop/orders"
WINDOW = 192 * 3600.0
DAY = timedelta(days=1)
TAKEN = Reply(Stage.END_OF_DATA, 250, "2.0.0 queued")
POLICY = RetryPolicy(
    max_attempts=5,
    initial_delay=5,
    max_delay=600,
    max_age=86_400,
    on_in_doubt="Resend",
    accepted_as=State.ACCEPTED,
)
HOUSE = DeliveryPolicy(PROFILE, SenderMailbox("post@example.com", "Shop"), POLICY, WINDOW)
KIND = "shop.order.placed"


def record(
    name: str = "a", offset: int = 0, key: bytes | None = None, at: datetime = NOON, **members: Any
) -> Record:
    """An event in the plain envelope, as the broker hands it over; `members` replace or add to it."""
    envelope = {
        "message_id": name,
        "event_type": KIND,
        "timestamp": at.isoformat(),
        "recipient": f"{name}@example.net",
        "data": {"name": name},
    } | members
    return Record(TOPIC, 0, offset, at, key, json.dumps(envelope).encode())


def letter(name: str = "a", offset: int = 0, replay: str = "", **members: Any) -> Letter:
    """A letter as it is claimed: read, its envelope and content made."""
    headers = ((REPLAY_HEADER, replay.encode()),) if replay else ()
    made = parse_record(replace(record(name, offset, **members), headers=headers), PROFILE)
    made.envelope = Envelope("post@example.com", made.event.recipient)
    made.content = f"To: {made.event.recipient}\r\n\r\n{name}\r\n".encode()
    made.template, made.revision, made.message_id = "order", "0123456789ab", f"<{name}@example.com>"
    return made


def ended(one: Claimed, state: State = State.ACCEPTED, **changes: Any) -> Settlement:
    """A settlement of one attempt, by default the relay's 250."""
    attempt = Attempt(state.value, Stage.END_OF_DATA, 250, "2.0.0 queued")
    return replace(
        Settlement(one, state, attempt=attempt, attempts=one.attempts + 1, in_doubt_count=one.in_doubt_count),
        **changes,
    )


def dead_letter(one: Record, *problems: Any, at: datetime = NOON) -> DeadLetter:
    return DeadLetter(f"{one.topic}/{one.partition}/{one.offset}", one, problems, at)
