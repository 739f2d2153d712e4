"""The status events of letters: which statuses are published, and how their events are named.

The worker publishes status events on the profile's status topic and to its callbacks. A profile selects
statuses by the names of `LetterStatus`; the ledger's states are their snake-case forms.
"""

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field

STATUS_EVENT_TYPE_PREFIX = "dev.postroom.letter."
"""The prefix of each event's type; the ledger's state follows."""

LetterStatus = Literal[
    "Accepted",
    "Captured",
    "Delivered",
    "Deferred",
    "Scheduled",
    "InDoubt",
    "Failed",
    "RenderFailed",
    "Expired",
    "Suppressed",
    "Bounced",
]
"""A published status of a letter, in the spelling of a profile."""
ALL_STATUSES: tuple[LetterStatus, ...] = get_args(LetterStatus)
FINAL_STATUSES: tuple[LetterStatus, ...] = tuple(
    status for status in ALL_STATUSES if status not in {"Deferred", "Scheduled"}
)
"""The statuses after which the worker does not act again without a new cause."""
StatusList = Annotated[list[LetterStatus], Field(max_length=16)]


def ledger_state(status: str) -> str:
    """The ledger's state of a status: `in_doubt` for `InDoubt`."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", status).lower()


def ledger_states(statuses: Iterable[str]) -> Collection[str]:
    """The ledger's states of several statuses."""
    return frozenset(map(ledger_state, statuses))


def status_event_type(state: str) -> str:
    """The CloudEvents type of the event for a letter in this state of the ledger."""
    return STATUS_EVENT_TYPE_PREFIX + state


def status_event_source(profile: str) -> str:
    """The CloudEvents source of a profile's events; `profile` is `namespace/name`."""
    namespace, _, name = profile.partition("/")
    return f"/namespaces/{namespace}/smtpprofiles/{name}"


def rfc3339(at: datetime) -> str:
    """A time in the format of RFC 3339, in milliseconds; `at` is aware UTC."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
