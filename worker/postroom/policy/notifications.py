"""Decide on notifications: which ones follow from a letter transition, their payload, and when to retry.

`notification_rule`: LetterTransition → a Notification for each destination that subscribes to the state. The
payload identifies the letter in the receiver's own system: the event's source, id and references. It contains
no personal data that can be left out: no recipient, no event data, and no texts of the relay or of problems,
which quote addresses.

`next_callback_in`: (response, attempts, age, random number) → seconds until the next attempt, or None. As in
Standard Webhooks, every status other than 2xx is retried with growing delays for a day. `410 Gone` does not
end the retries, because a briefly misconfigured server also sends it: the callback pauses for an hour, and
its condition reports the status.
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
PAUSE_AFTER, MAX_PAUSE_SECONDS = 3, 60.0
"""Consecutive failures after which a callback pauses before the next notification, and the longest pause."""


def is_delivered(answer: CallbackResponse) -> bool:
    """Whether the receiver accepted the notification."""
    return 200 <= answer.status < 300


def next_callback_in(answer: CallbackResponse, tries: int, age: float, chance: float) -> float | None:
    """Return the seconds until the next attempt; None: give up. `tries` and `age` are the notification's."""
    wait = min(LONGEST_SECONDS, FIRST_SECONDS * 4.0 ** min(tries, 16))
    if answer.status == GONE:
        wait = max(wait, GONE_SECONDS)
    wait = max(wait * (1 + CALLBACK_JITTER * (2 * chance - 1)), min(answer.retry_after, LONGEST_SECONDS))
    return wait if age + wait <= GIVEN_UP_SECONDS else None


def callback_pause(answer: CallbackResponse, failures: int) -> float:
    """Return the seconds for which a callback pauses after so many consecutive failures."""
    if answer.status == GONE:
        return GONE_SECONDS
    if failures < PAUSE_AFTER:
        return 0.0
    return min(MAX_PAUSE_SECONDS, 2.0 ** min(failures - PAUSE_AFTER, 10))


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_REPLY = re.compile(r"([2-5]\d\d)(?: ([245]\.\d{1,3}\.\d{1,3})\b)?")
_WITHOUT_PROBLEM = (State.ACCEPTED, State.CAPTURED, State.DELIVERED)


def notification_rule(wanted: Mapping[str, Collection[str]]) -> NotificationRule:
    """Build the rule for these destinations, each with the states that it subscribes to."""

    def notify(transition: LetterTransition) -> Sequence[Notification]:
        destinations = [name for name, states in wanted.items() if transition.state.value in states]
        return list(_notifications(transition, destinations)) if destinations else ()

    return notify


def notification_id(transition: LetterTransition) -> str:
    """Return an id that is stable for a transition: row, state and millisecond."""
    return f"{transition.row:x}-{transition.state.value}-{int(transition.at.timestamp() * 1000):x}"


def build_payload(transition: LetterTransition) -> dict[str, Any]:
    """Build the notification payload; unknown fields are omitted."""
    identity = transition.identity
    event = {
        "source": identity.source,
        "id": identity.id,
        "type": transition.event_type,
        "user_id": transition.user_id,
        "request_id": transition.request_id,
        "metadata": dict(transition.metadata) or None,
    }
    payload = {
        "state": transition.state.value,
        "profile": identity.profile,
        "event": {name: value for name, value in event.items() if value is not None},
        "template": transition.template,
        "revision": transition.revision,
        "message_id": transition.message_id,
        "attempts": transition.attempts,
        "next_attempt": rfc3339(transition.due) if transition.due else None,
        "problem": transition.code if transition.state not in _WITHOUT_PROBLEM else None,
        "smtp": _smtp(transition.reply),
        "report": dict(transition.report) or None,
    }
    return {name: value for name, value in payload.items() if value not in (None, "")}


def _notifications(transition: LetterTransition, destinations: Sequence[str]) -> Iterator[Notification]:
    name, type_, data = (
        notification_id(transition),
        status_event_type(transition.state.value),
        _encode(build_payload(transition)),
    )
    for destination in destinations:
        yield Notification(
            name, destination, transition.identity.id, type_, data, transition.at, transition.row
        )


def _smtp(reply: str) -> dict[str, Any] | None:
    """Return the codes of the relay's reply (RFC 5321 §4.2, RFC 3463) without its text."""
    match = _REPLY.match(reply)
    if match is None:
        return None
    return {"code": int(match[1])} | ({"enhanced": match[2]} if match[2] else {})
