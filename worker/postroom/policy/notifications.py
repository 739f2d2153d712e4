"""What follows from the answer to a callback: Answer × tries × age × chance → when to come back, or never.

As Standard Webhooks has it: whatever is not 2xx is tried again, further and further apart, for a day. `410
Gone` ends nothing by itself, for a server that was set up wrongly for a minute says it as well: the callback
rests for an hour, and its condition says what to do.

Whom to tell, and what: Fate × who wants what → notices.

In a notice is what its reader needs to find the letter again in its own system: the event's source, id and
references. Out of it stays whatever is personal and can be left out: the recipient, the data, and the texts
of the relay and of problems, which quote addresses.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from postroom.letter.status_events import rfc3339, status_event_type
from postroom.ports.ledger import State
from postroom.ports.notifications import CallbackResponse, LetterTransition, Notification, NotificationRule

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 4 * 3600.0
GIVEN_UP_SECONDS = 24 * 3600.0
GONE, GONE_SECONDS = 410, 3600.0
CALLBACK_JITTER = 0.2
REST_AFTER, REST_MOST_SECONDS = 3, 60.0
"""Failures in a row after which a callback rests before the next is sent, and how long at most."""


def is_delivered(answer: CallbackResponse) -> bool:
    """Whether the receiver has it."""
    return 200 <= answer.status < 300


def next_callback_in(answer: CallbackResponse, tries: int, age: float, chance: float) -> float | None:
    """Seconds until the next try; None: never. `tries` are those before this one, `age` is the notice's."""
    wait = min(LONGEST_SECONDS, FIRST_SECONDS * 4.0 ** min(tries, 16))
    if answer.status == GONE:
        wait = max(wait, GONE_SECONDS)
    wait = max(wait * (1 + CALLBACK_JITTER * (2 * chance - 1)), min(answer.retry_after, LONGEST_SECONDS))
    return wait if age + wait <= GIVEN_UP_SECONDS else None


def callback_pause(answer: CallbackResponse, failures: int) -> float:
    """Seconds for which nothing is sent to a callback that has just failed so many times in a row."""
    if answer.status == GONE:
        return GONE_SECONDS
    if failures < REST_AFTER:
        return 0.0
    return min(REST_MOST_SECONDS, 2.0 ** min(failures - REST_AFTER, 10))


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_REPLY = re.compile(r"([2-5]\d\d)(?: ([245]\.\d{1,3}\.\d{1,3})\b)?")
_WITHOUT_PROBLEM = (State.ACCEPTED, State.CAPTURED, State.DELIVERED)


def notification_rule(wanted: Mapping[str, Collection[str]]) -> NotificationRule:
    """A herald for these destinations, each with the states that it wants to hear of."""

    def tell(fate: LetterTransition) -> Sequence[Notification]:
        destinations = [name for name, states in wanted.items() if fate.state.value in states]
        return list(_notifications(fate, destinations)) if destinations else ()

    return tell


def notification_id(fate: LetterTransition) -> str:
    """The same for the same change of the same letter: row, state and millisecond."""
    return f"{fate.row:x}-{fate.state.value}-{int(fate.at.timestamp() * 1000):x}"


def build_payload(fate: LetterTransition) -> dict[str, Any]:
    """What is told of a letter; what is not known is not there."""
    identity = fate.identity
    event = {
        "source": identity.source,
        "id": identity.id,
        "type": fate.event_type,
        "user_id": fate.user_id,
        "request_id": fate.request_id,
        "metadata": dict(fate.metadata) or None,
    }
    told = {
        "state": fate.state.value,
        "profile": identity.profile,
        "event": {name: value for name, value in event.items() if value is not None},
        "template": fate.template,
        "revision": fate.revision,
        "message_id": fate.message_id,
        "attempts": fate.attempts,
        "next_attempt": rfc3339(fate.due) if fate.due else None,
        "problem": fate.code if fate.state not in _WITHOUT_PROBLEM else None,
        "smtp": _smtp(fate.reply),
        "report": dict(fate.report) or None,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def _notifications(fate: LetterTransition, destinations: Sequence[str]) -> Iterator[Notification]:
    name, type_, data = (
        notification_id(fate),
        status_event_type(fate.state.value),
        _encode(build_payload(fate)),
    )
    for destination in destinations:
        yield Notification(name, destination, fate.identity.id, type_, data, fate.at, fate.row)


def _smtp(reply: str) -> dict[str, Any] | None:
    """The codes of the relay's answer (RFC 5321 §4.2, RFC 3463), without its text."""
    found = _REPLY.match(reply)
    if found is None:
        return None
    return {"code": int(found[1])} | ({"enhanced": found[2]} if found[2] else {})
