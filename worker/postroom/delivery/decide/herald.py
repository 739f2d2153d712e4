"""Whom to tell, and what: Fate × who wants what → notices.

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
from postroom.ports.notices import Fate, Herald, Notice

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_REPLY = re.compile(r"([2-5]\d\d)(?: ([245]\.\d{1,3}\.\d{1,3})\b)?")
_TELLS_OF_NO_PROBLEM = (State.ACCEPTED, State.CAPTURED, State.DELIVERED)


def herald_of(wanted: Mapping[str, Collection[str]]) -> Herald:
    """A herald for these destinations, each with the states that it wants to hear of."""

    def tell(fate: Fate) -> Sequence[Notice]:
        destinations = [name for name, states in wanted.items() if fate.state.value in states]
        return list(_notices(fate, destinations)) if destinations else ()

    return tell


def notice_id(fate: Fate) -> str:
    """The same for the same change of the same letter: row, state and millisecond."""
    return f"{fate.row:x}-{fate.state.value}-{int(fate.at.timestamp() * 1000):x}"


def data_of(fate: Fate) -> dict[str, Any]:
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
        "problem": fate.code if fate.state not in _TELLS_OF_NO_PROBLEM else None,
        "smtp": _smtp(fate.reply),
        "report": dict(fate.report) or None,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def _notices(fate: Fate, destinations: Sequence[str]) -> Iterator[Notice]:
    name, type_, data = notice_id(fate), status_event_type(fate.state.value), _encode(data_of(fate))
    for destination in destinations:
        yield Notice(name, destination, fate.identity.id, type_, data, fate.at, fate.row)


def _smtp(reply: str) -> dict[str, Any] | None:
    """The codes of the relay's answer (RFC 5321 §4.2, RFC 3463), without its text."""
    found = _REPLY.match(reply)
    if found is None:
        return None
    return {"code": int(found[1])} | ({"enhanced": found[2]} if found[2] else {})
