"""Conditions as Kubernetes has them (metav1.Condition): what is so, since when, and of which generation.

`lastTransitionTime` moves when the status flips and at no other time. The reason is one CamelCase word for
programs; where a problem is the cause it is the problem's code. The message is for people, and bounded.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from postroom.letter.problems import Problem

MESSAGE_LENGTH = 1024
PROBLEMS = 20
"""So many are listed in a status; who mends them sees the rest afterwards."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out about one condition; `ok` None: nobody knows yet."""

    type: str
    ok: bool | None
    reason: str
    message: str = ""

    def named(self, type_: str) -> "Found":
        """The same, said of another condition."""
        return Found(type_, self.ok, self.reason, self.message)


def conditions(found: Iterable[Found], manifest: Mapping[str, Any], now: datetime) -> list[dict[str, Any]]:
    """The conditions of an object's next status, in the given order."""
    status = manifest.get("status") or {}
    before = {each["type"]: each for each in status.get("conditions", [])}
    return [_condition(each, before.get(each.type), manifest, now) for each in found]


def said_before(manifest: Mapping[str, Any], found: Found) -> Found:
    """What the status says of a condition already; what was found now, where it says nothing."""
    for each in (manifest.get("status") or {}).get("conditions", []):
        if each["type"] == found.type:
            ok = None if each["status"] == "Unknown" else each["status"] == "True"
            return Found(found.type, ok, each["reason"], each["message"])
    return found


def _condition(
    found: Found, before: Mapping[str, Any] | None, manifest: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    status = "Unknown" if found.ok is None else str(found.ok)
    since = before["lastTransitionTime"] if before and before["status"] == status else stamp(now)
    return {
        "type": found.type,
        "status": status,
        "reason": _word(found.reason),
        "message": bounded(found.message),
        "observedGeneration": generation(manifest),
        "lastTransitionTime": since,
    }


def _word(reason: str) -> str:
    """A reason that the API server takes: others' words come here too, and one bad one refuses the status."""
    return re.sub(r"[^A-Za-z0-9]", "", reason).lstrip("0123456789") or "Unspecified"


def stamp(now: datetime) -> str:
    """A time as metav1.Time has it: UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generation(manifest: Mapping[str, Any]) -> int:
    """Which version of its spec an object is at."""
    return int(manifest["metadata"].get("generation", 0))


def camel(code: str) -> str:
    """A problem's code as a reason: `variable_missing` → `VariableMissing`."""
    return "".join(word.capitalize() for word in code.split("_"))


def bounded(text: str, length: int = MESSAGE_LENGTH) -> str:
    """At most so many characters, and a sign that there were more."""
    return text if len(text) <= length else text[: length - 1] + "…"


def blame(type_: str, problems: Sequence[Problem], addition: str = "") -> Found:
    """A condition that is false for these problems: the first in full, the number of the others."""
    first, others = problems[0], len(problems) - 1
    place = f"{first.field}, line {first.line}" if first.line else first.field
    # the addition says what serves meanwhile: a long message must not push it out
    more = f" (and {others} more)" if others else ""
    tail = f"{more}{addition}"
    return Found(
        type_,
        False,
        camel(first.code),
        bounded(f"{place}: {first.message}", MESSAGE_LENGTH - len(tail)) + tail,
    )


def listed(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems as a status lists them."""
    return [
        {
            "code": str(each.code),
            "field": each.field,
            **({"line": each.line} if each.line else {}),
            "message": bounded(each.message),
        }
        for each in [*problems][:PROBLEMS]
    ]


def said(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without the parts that say nothing."""
    return {key: value for key, value in status.items() if value not in (None, "", [], {})}
