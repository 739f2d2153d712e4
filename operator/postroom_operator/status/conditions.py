"""Conditions, their transitions, and the Events about them. Pure; time is an argument.

- Conditions are built as Kubernetes has them (metav1.Condition): `lastTransitionTime` changes only when the
  status changes; the reason is one CamelCase word for programs, and where a problem is the cause it is the
  problem's code; the message is for people and bounded.
- Metrics, Events and the log read the written Ready condition (`ready_condition`, `object_readiness`).
- (status before, status after) → a transition of Ready for the log, and the content of an Event where a
  person should know: the object stops being ready, or is not ready for another reason or with another spec;
  it is ready again; the delivery guard changes its mode. A change that is in progress is not reported. The
  name of an Event is made from the object, the reason and the generation, so that reporting it again is a
  Conflict and no second Event.
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
"""A status lists this many problems; the others follow when these are corrected."""
EVENT_NAME_LENGTH = 200
NOTE_BYTES = 1024
"""The API server counts an Event's note in bytes of UTF-8, although its error speaks of characters."""

PENDING = "Pending"
TREATED_AS_SANDBOX = "TreatedAsSandbox"
SUSPENDED, SUSPENDING, REPLACING = "Suspended", "Suspending", "Replacing"
STARTING = "Starting"
ROLLING_OUT = "RollingOut"

CHANGING_EFFECT = frozenset({SUSPENDING, REPLACING})
"""Workers that treated events differently are ending; new ones start when the last is gone."""
IN_PROGRESS = CHANGING_EFFECT | {ROLLING_OUT, STARTING}
"""Not ready, and about to change."""
EXPECTED = IN_PROGRESS | {SUSPENDED}
"""Not ready, as the user intended."""


@dataclass(frozen=True, slots=True)
class StatusCondition:
    """One condition; `ok` None: unknown."""

    type: str
    ok: bool | None
    reason: str
    message: str = ""

    def as_type(self, type_: str) -> "StatusCondition":
        """The same state as a condition of another type."""
        return StatusCondition(type_, self.ok, self.reason, self.message)


def build_conditions(
    conditions: Iterable[StatusCondition], manifest: Mapping[str, Any], now: datetime
) -> list[dict[str, Any]]:
    """The conditions of an object's next status, in the given order."""
    status = manifest.get("status") or {}
    before = {condition["type"]: condition for condition in status.get("conditions", [])}
    return [
        _build_condition(condition, before.get(condition.type), manifest, now) for condition in conditions
    ]


def previous_condition(manifest: Mapping[str, Any], current: StatusCondition) -> StatusCondition:
    """The condition as the status has it; `current` where the status does not have it."""
    for condition in (manifest.get("status") or {}).get("conditions", []):
        if condition["type"] == current.type:
            ok = None if condition["status"] == "Unknown" else condition["status"] == "True"
            return StatusCondition(current.type, ok, condition["reason"], condition["message"])
    return current


def _build_condition(
    condition: StatusCondition, before: Mapping[str, Any] | None, manifest: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    status = "Unknown" if condition.ok is None else str(condition.ok)
    since = before["lastTransitionTime"] if before and before["status"] == status else timestamp(now)
    return {
        "type": condition.type,
        "status": status,
        "reason": _valid_reason(condition.reason),
        "message": truncate(condition.message),
        "observedGeneration": generation(manifest),
        "lastTransitionTime": since,
    }


def _valid_reason(reason: str) -> str:
    """A reason that the API server accepts. Workers and KEDA supply reasons, and a bad one rejects the
    status.
    """
    return re.sub(r"[^A-Za-z0-9]", "", reason).lstrip("0123456789") or "Unspecified"


def timestamp(now: datetime) -> str:
    """A time as metav1.Time has it: UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generation(manifest: Mapping[str, Any]) -> int:
    """The generation of an object's spec."""
    return int(manifest["metadata"].get("generation", 0))


def reason_of(code: str) -> str:
    """A problem's code as a reason: `variable_missing` → `VariableMissing`."""
    return "".join(word.capitalize() for word in code.split("_"))


def truncate(text: str, length: int = MESSAGE_LENGTH) -> str:
    """The text, cut to a number of characters with `…` at the end where it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def problem_condition(type_: str, problems: Sequence[Problem], addition: str = "") -> StatusCondition:
    """A condition that is False because of these problems: the first in full, and the number of the
    others.
    """
    first, others = problems[0], len(problems) - 1
    location = f"{first.field}, line {first.line}" if first.line else first.field
    # a long message must not push out the addition, which names the revision that is served
    more = f" (and {others} more)" if others else ""
    tail = f"{more}{addition}"
    return StatusCondition(
        type_,
        False,
        reason_of(first.code),
        truncate(f"{location}: {first.message}", MESSAGE_LENGTH - len(tail)) + tail,
    )


def problem_entries(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """The problems as a status lists them."""
    return [
        {
            "code": str(problem.code),
            "field": problem.field,
            **({"line": problem.line} if problem.line else {}),
            "message": truncate(problem.message),
        }
        for problem in [*problems][:MAX_PROBLEMS]
    ]


def without_empty(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without its empty members."""
    return {key: value for key, value in status.items() if value not in (None, "", [], {})}


# --- Ready -----------------------------------------------------------------------------------------


def ready_condition(status: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The Ready condition of a status; empty where it has none yet."""
    conditions = (status or {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == "Ready"), {})


def object_readiness(manifest: Mapping[str, Any]) -> ObjectReadiness:
    """The readiness of a custom resource, by its status. Unknown counts as not ready."""
    metadata, ready = manifest["metadata"], ready_condition(manifest.get("status"))
    return ObjectReadiness(
        manifest["kind"],
        metadata.get("namespace", ""),
        metadata["name"],
        ready.get("reason", PENDING),
        ready.get("status") == "True",
    )


@dataclass(frozen=True, slots=True)
class EventContent:
    """The type, reason and note of an Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ReadyTransition:
    """A change of Ready, for the log."""

    ready: str
    reason: str
    message: str
    event: EventContent | None
    """The Event about it, where a person should know."""

    @property
    def is_warning(self) -> bool:
        """Whether a person should look at it."""
        return self.event is not None and self.event.type == "Warning"


def ready_transition(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> ReadyTransition | None:
    """The transition of Ready between two statuses; None where it is the same, unknown, or in progress."""
    was, now = ready_condition(before), ready_condition(after)
    if (
        now.get("status") not in ("True", "False")
        or now["reason"] in IN_PROGRESS
        or not _has_changed(was, now)
    ):
        return None
    return ReadyTransition(now["status"], now["reason"], now["message"], _event_content(was, now))


def _event_content(was: Mapping[str, Any], now: Mapping[str, Any]) -> EventContent | None:
    if now["status"] == "False" and now["reason"] not in EXPECTED:
        return EventContent("Warning", now["reason"], now["message"])
    if now["status"] == "True" and now["reason"] == TREATED_AS_SANDBOX != was.get("reason"):
        return EventContent("Warning", now["reason"], now["message"])
    if now["status"] == "True" and was.get("status") == "False" and was["reason"] not in EXPECTED:
        return EventContent("Normal", "Recovered", now["message"])
    return None


def event_manifest(
    manifest: Mapping[str, Any], content: EventContent, reporter: str, now: datetime
) -> dict[str, Any]:
    """The Event (events.k8s.io/v1) about an object; `reporter` is the operator's pod."""
    metadata = manifest["metadata"]
    identity = f"{metadata['uid']}/{content.reason}/{metadata.get('generation', 0)}"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:EVENT_NAME_LENGTH].rstrip('.-')}.{digest(identity, 16)}",
            "namespace": metadata["namespace"],
        },
        "type": content.type,
        "reason": content.reason,
        "action": "Reconcile",
        "note": _event_note(content.message),
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
    content, ellipsis = text.encode(), "…"
    if len(content) <= NOTE_BYTES:
        return text
    return content[: NOTE_BYTES - len(ellipsis.encode())].decode(errors="ignore") + ellipsis


def _has_changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return any(was.get(key) != now[key] for key in ("status", "reason", "observedGeneration"))
