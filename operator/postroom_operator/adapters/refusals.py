"""An API server's `Status` as one of the errors of `cluster`: what follows from it, in its own words."""

from collections.abc import Mapping
from typing import Any

from postroom_operator.cluster import Absent, ClusterError, Conflict, Ending, Refused, Unavailable

MESSAGE_CHARACTERS = 1_000


def refusal(asked: str, status: int, body: Any, headers: Mapping[str, str]) -> ClusterError:
    """What an answer other than 2xx means; `asked` is what was asked, for one that says nothing itself."""
    answer = body if isinstance(body, dict) else {}
    message = str(answer.get("message") or f"the API server answered {status} to {asked}")
    message = message[:MESSAGE_CHARACTERS]
    if status in (404, 410):
        return Absent(message, status)
    if status == 409:
        return Conflict(message, status)
    if status == 403 and _is_ending(answer):
        return Ending(message, status)
    if status in (400, 403, 405, 413, 415, 422):
        return Refused(message, status)
    return Unavailable(message, status, _wait(answer, headers))


def _is_ending(answer: dict[str, Any]) -> bool:
    causes = (answer.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def _wait(answer: dict[str, Any], headers: Mapping[str, str]) -> float | None:
    asked = headers.get("Retry-After") or (answer.get("details") or {}).get("retryAfterSeconds")
    try:
        return float(asked) if asked else None
    except ValueError:
        return None
