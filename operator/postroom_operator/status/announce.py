"""Which changes of a status deserve an Event: few, and each once.

(status before, status after) → announcements: when an object stops being ready, or is not ready for another
reason or with another spec; when it is ready again; when the guard turns its mode. What is only under way
deserves none. An Event's name is made from the object, the reason and the generation, so that to announce
the same again is a conflict and not a second Event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from postroom_operator.names import OPERATOR, digest
from postroom_operator.status.conditions import bounded
from postroom_operator.status.profile import REPLACING, SUSPENDED, SUSPENDING, TREATED_AS_SANDBOX
from postroom_operator.status.template import ROLLING_OUT
from postroom_operator.status.workers import STARTING

QUIET = frozenset({ROLLING_OUT, STARTING, SUSPENDED, SUSPENDING, REPLACING})
"""Not ready, and as it should be."""
NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an Event says."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def announcements(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[Announcement]:
    """What has happened that a person would want to hear of."""
    was, now = _ready(before or {}), _ready(after)
    found: list[Announcement] = []
    if now.get("status") == "False" and now["reason"] not in QUIET and _news(was, now):
        found.append(Announcement("Warning", now["reason"], now["message"]))
    if now.get("status") == "True" and now["reason"] == TREATED_AS_SANDBOX != was.get("reason"):
        found.append(Announcement("Warning", now["reason"], now["message"]))
    elif now.get("status") == "True" and was.get("status") == "False" and was["reason"] not in QUIET:
        found.append(Announcement("Normal", "Recovered", now["message"]))
    return found


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
        "note": bounded(said.message),
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


def _news(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return any(was.get(key) != now[key] for key in ("status", "reason", "observedGeneration"))


def _ready(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})
