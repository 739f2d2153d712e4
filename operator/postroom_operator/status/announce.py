"""Which changes of a status are told: in the log what comes to something, by an Event few, and each once.

(status before, status after) → a turn of Ready, and its announcement: when an object stops being ready, or is
not ready for another reason or with another spec; when it is ready again; when the guard turns its mode. What
is only under way is not told. An Event's name is made from the object, the reason and the generation, so that
to announce the same again is a conflict and not a second Event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from postroom_operator.names import OPERATOR, digest
from postroom_operator.status.conditions import bounded
from postroom_operator.status.profile import SUSPENDED, TREATED_AS_SANDBOX, TURNING
from postroom_operator.status.ready import ready_of
from postroom_operator.status.template import ROLLING_OUT
from postroom_operator.status.workers import STARTING

UNDER_WAY = TURNING | {ROLLING_OUT, STARTING}
"""Not ready, and soon otherwise."""
QUIET = UNDER_WAY | {SUSPENDED}
"""Not ready, and as it should be."""
NAME_LENGTH = 200
NOTE_BYTES = 1024
"""The API server counts a note in bytes of UTF-8, though it calls them characters."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an Event says."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of Ready, as the log tells it."""

    ready: str
    reason: str
    message: str
    announcement: Announcement | None
    """What an Event says of it, where it deserves one."""

    @property
    def grave(self) -> bool:
        """Whether somebody should look."""
        return self.announcement is not None and self.announcement.type == "Warning"


def turn(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Turn | None:
    """What became of Ready; None where it is as it was, or where nobody can tell yet what comes of it."""
    was, now = ready_of(before), ready_of(after)
    if now.get("status") not in ("True", "False") or now["reason"] in UNDER_WAY or not _news(was, now):
        return None
    return Turn(now["status"], now["reason"], now["message"], _announcement(was, now))


def _announcement(was: Mapping[str, Any], now: Mapping[str, Any]) -> Announcement | None:
    if now["status"] == "False" and now["reason"] not in QUIET:
        return Announcement("Warning", now["reason"], now["message"])
    if now["status"] == "True" and now["reason"] == TREATED_AS_SANDBOX != was.get("reason"):
        return Announcement("Warning", now["reason"], now["message"])
    if now["status"] == "True" and was.get("status") == "False" and was["reason"] not in QUIET:
        return Announcement("Normal", "Recovered", now["message"])
    return None


def event(manifest: Mapping[str, Any], said: Announcement, reporter: str, now: datetime) -> dict[str, Any]:
    """The Event (events.k8s.io/v1) about an object; `reporter` is the operator's pod."""
    metadata = manifest["metadata"]
    once = f"{metadata['uid']}/{said.reason}/{metadata.get('generation', 0)}"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:NAME_LENGTH].rstrip('.-')}.{digest(once, 16)}",
            "namespace": metadata["namespace"],
        },
        "type": said.type,
        "reason": said.reason,
        "action": "Reconcile",
        "note": _note(said.message),
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"postroom.dev/{OPERATOR}",
        "reportingInstance": bounded(reporter or OPERATOR, 128),
        "regarding": {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }


def _note(text: str) -> str:
    content, more = text.encode(), "…"
    if len(content) <= NOTE_BYTES:
        return text
    return content[: NOTE_BYTES - len(more.encode())].decode(errors="ignore") + more


def _news(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return any(was.get(key) != now[key] for key in ("status", "reason", "observedGeneration"))
