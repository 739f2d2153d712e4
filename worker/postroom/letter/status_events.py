"""What others can be told of letters, and the part of an SmtpProfile that says who is told what."""

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field

STATUS_EVENT_TYPE_PREFIX = "dev.postroom.letter."
"""What the type of every event begins with; the state follows."""

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
"""What can become of a letter: the states of the ledger that are told to others."""
ALL_STATUSES: tuple[LetterStatus, ...] = get_args(LetterStatus)
FINAL_STATUSES: tuple[LetterStatus, ...] = tuple(
    what for what in ALL_STATUSES if what not in {"Deferred", "Scheduled"}
)
"""What is not followed by anything by itself."""
StatusList = Annotated[list[LetterStatus], Field(max_length=16)]


def ledger_state(what: str) -> str:
    """The ledger's state: InDoubt is in_doubt."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", what).lower()


def ledger_states(wanted: Iterable[str]) -> Collection[str]:
    """The ledger's states."""
    return frozenset(map(ledger_state, wanted))


def status_event_type(state: str) -> str:
    """The type of the event that says that a letter is in this state."""
    return STATUS_EVENT_TYPE_PREFIX + state


def status_event_source(profile: str) -> str:
    """The source of a profile's events; `profile` is `namespace/name`."""
    namespace, _, name = profile.partition("/")
    return f"/namespaces/{namespace}/smtpprofiles/{name}"


def rfc3339(at: datetime) -> str:
    """A time as RFC 3339 has it, in milliseconds."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
