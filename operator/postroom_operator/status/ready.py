"""What an object's Ready condition says: metrics, Events and the log all read it from the written status."""

from collections.abc import Mapping
from typing import Any

from postroom_operator.facts import Readiness

UNSEEN = "NotLookedAt"


def ready_of(status: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The Ready condition of a status; empty where there is none yet."""
    return next((each for each in (status or {}).get("conditions", []) if each["type"] == "Ready"), {})


def readiness(manifest: Mapping[str, Any]) -> Readiness:
    """Whether an object of ours is ready, by its status. What nobody can tell yet is not ready."""
    metadata, found = manifest["metadata"], ready_of(manifest.get("status"))
    return Readiness(
        manifest["kind"],
        metadata.get("namespace", ""),
        metadata["name"],
        found.get("reason", UNSEEN),
        found.get("status") == "True",
    )
