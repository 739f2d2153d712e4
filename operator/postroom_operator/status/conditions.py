"""Conditions as Kubernetes has them (metav1.Condition): what is so, since when, and of which generation.

`lastTransitionTime` moves when the status flips and at no other time. The reason is one CamelCase word for
programs; where a problem is the cause it is the problem's code. The message is for people, and bounded.

What an object's Ready condition says: metrics, Events and the log all read it from the written status.

Which changes of a status are told: in the log what comes to something, by an Event few, and each once.

(status before, status after) → a turn of Ready, and its announcement: when an object stops being ready, or is
not ready for another reason or with another spec; when it is ready again; when the guard turns its mode. What
is only under way is not told. An Event's name is made from the object, the reason and the generation, so that
to announce the same again is a conflict and not a second Event.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from postroom.letter.problems import Problem
from postroom_operator.models import ObjectReadiness
from postroom_operator.names import OPERATOR, digest

MESSAGE_LENGTH = 1024
MAX_PROBLEMS = 20
"""So many are listed in a status; who mends them sees the rest afterwards."""
TREATED_AS_SANDBOX = "TreatedAsSandbox"
SUSPENDED, SUSPENDING, REPLACING = "Suspended", "Suspending", "Replacing"
CHANGING_EFFECT = frozenset({SUSPENDING, REPLACING})
"""Workers that did something else with events are ending; new ones start when the last is gone."""
STARTING = "Starting"
ROLLING_OUT = "RollingOut"


@dataclass(frozen=True, slots=True)
class StatusCondition:
    """What was found out about one condition; `ok` None: nobody knows yet."""

    type: str
    ok: bool | None
    reason: str
    message: str = ""

    def as_type(self, type_: str) -> "StatusCondition":
        """The same, said of another condition."""
        return StatusCondition(type_, self.ok, self.reason, self.message)


def build_conditions(
    found: Iterable[StatusCondition], manifest: Mapping[str, Any], now: datetime
) -> list[dict[str, Any]]:
    """The conditions of an object's next status, in the given order."""
    status = manifest.get("status") or {}
    before = {each["type"]: each for each in status.get("conditions", [])}
    return [_condition(each, before.get(each.type), manifest, now) for each in found]


def previous_condition(manifest: Mapping[str, Any], found: StatusCondition) -> StatusCondition:
    """What the status says of a condition already; what was found now, where it says nothing."""
    for each in (manifest.get("status") or {}).get("conditions", []):
        if each["type"] == found.type:
            ok = None if each["status"] == "Unknown" else each["status"] == "True"
            return StatusCondition(found.type, ok, each["reason"], each["message"])
    return found


def _condition(
    found: StatusCondition, before: Mapping[str, Any] | None, manifest: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    status = "Unknown" if found.ok is None else str(found.ok)
    since = before["lastTransitionTime"] if before and before["status"] == status else timestamp(now)
    return {
        "type": found.type,
        "status": status,
        "reason": _valid_reason(found.reason),
        "message": truncate(found.message),
        "observedGeneration": generation(manifest),
        "lastTransitionTime": since,
    }


def _valid_reason(reason: str) -> str:
    """A reason that the API server takes: others' words come here too, and one bad one refuses the status."""
    return re.sub(r"[^A-Za-z0-9]", "", reason).lstrip("0123456789") or "Unspecified"


def timestamp(now: datetime) -> str:
    """A time as metav1.Time has it: UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generation(manifest: Mapping[str, Any]) -> int:
    """Which version of its spec an object is at."""
    return int(manifest["metadata"].get("generation", 0))


def reason_of(code: str) -> str:
    """A problem's code as a reason: `variable_missing` → `VariableMissing`."""
    return "".join(word.capitalize() for word in code.split("_"))


def truncate(text: str, length: int = MESSAGE_LENGTH) -> str:
    """At most so many characters, and a sign that there were more."""
    return text if len(text) <= length else text[: length - 1] + "…"


def problem_condition(type_: str, problems: Sequence[Problem], addition: str = "") -> StatusCondition:
    """A condition that is false for these problems: the first in full, the number of the others."""
    first, others = problems[0], len(problems) - 1
    place = f"{first.field}, line {first.line}" if first.line else first.field
    # the addition says what serves meanwhile: a long message must not push it out
    more = f" (and {others} more)" if others else ""
    tail = f"{more}{addition}"
    return StatusCondition(
        type_,
        False,
        reason_of(first.code),
        truncate(f"{place}: {first.message}", MESSAGE_LENGTH - len(tail)) + tail,
    )


def problem_entries(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems as a status lists them."""
    return [
        {
            "code": str(each.code),
            "field": each.field,
            **({"line": each.line} if each.line else {}),
            "message": truncate(each.message),
        }
        for each in [*problems][:MAX_PROBLEMS]
    ]


def without_empty(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without the parts that say nothing."""
    return {key: value for key, value in status.items() if value not in (None, "", [], {})}


PENDING = "Pending"


def ready_condition(status: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The Ready condition of a status; empty where there is none yet."""
    return next((each for each in (status or {}).get("conditions", []) if each["type"] == "Ready"), {})


def object_readiness(manifest: Mapping[str, Any]) -> ObjectReadiness:
    """Whether an object of ours is ready, by its status. What nobody can tell yet is not ready."""
    metadata, found = manifest["metadata"], ready_condition(manifest.get("status"))
    return ObjectReadiness(
        manifest["kind"],
        metadata.get("namespace", ""),
        metadata["name"],
        found.get("reason", PENDING),
        found.get("status") == "True",
    )


UNDER_WAY = CHANGING_EFFECT | {ROLLING_OUT, STARTING}
"""Not ready, and soon otherwise."""
QUIET = UNDER_WAY | {SUSPENDED}
"""Not ready, and as it should be."""
EVENT_NAME_LENGTH = 200
NOTE_BYTES = 1024
"""The API server counts a note in bytes of UTF-8, though it calls them characters."""


@dataclass(frozen=True, slots=True)
class EventContent:
    """What an Event says."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ReadyTransition:
    """A change of Ready, as the log tells it."""

    ready: str
    reason: str
    message: str
    event: EventContent | None
    """What an Event says of it, where it deserves one."""

    @property
    def is_warning(self) -> bool:
        """Whether somebody should look."""
        return self.event is not None and self.event.type == "Warning"


def ready_transition(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> ReadyTransition | None:
    """What became of Ready; None where it is as it was, or where nobody can tell yet what comes of it."""
    was, now = ready_condition(before), ready_condition(after)
    if now.get("status") not in ("True", "False") or now["reason"] in UNDER_WAY or not _has_changed(was, now):
        return None
    return ReadyTransition(now["status"], now["reason"], now["message"], _event_content(was, now))


def _event_content(was: Mapping[str, Any], now: Mapping[str, Any]) -> EventContent | None:
    if now["status"] == "False" and now["reason"] not in QUIET:
        return EventContent("Warning", now["reason"], now["message"])
    if now["status"] == "True" and now["reason"] == TREATED_AS_SANDBOX != was.get("reason"):
        return EventContent("Warning", now["reason"], now["message"])
    if now["status"] == "True" and was.get("status") == "False" and was["reason"] not in QUIET:
        return EventContent("Normal", "Recovered", now["message"])
    return None


def event_manifest(
    manifest: Mapping[str, Any], said: EventContent, reporter: str, now: datetime
) -> dict[str, Any]:
    """The Event (events.k8s.io/v1) about an object; `reporter` is the operator's pod."""
    metadata = manifest["metadata"]
    once = f"{metadata['uid']}/{said.reason}/{metadata.get('generation', 0)}"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:EVENT_NAME_LENGTH].rstrip('.-')}.{digest(once, 16)}",
            "namespace": metadata["namespace"],
        },
        "type": said.type,
        "reason": said.reason,
        "action": "Reconcile",
        "note": _event_note(said.message),
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"postroom.dev/{OPERATOR}",
        "reportingInstance": truncate(reporter or OPERATOR, 128),
        "regarding": {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }


def _event_note(text: str) -> str:
    content, more = text.encode(), "…"
    if len(content) <= NOTE_BYTES:
        return text
    return content[: NOTE_BYTES - len(more.encode())].decode(errors="ignore") + more


def _has_changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return any(was.get(key) != now[key] for key in ("status", "reason", "observedGeneration"))
