"""What became of a message: its state and every attempt, without personal data.

The gateway asks whoever keeps the letters (`Letters`); it keeps none itself. A message that was accepted is
unknown until a worker has taken it from the topic, usually within milliseconds.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """One try at the letter; `code` and `text` are the relay's answer, `relay` the profile whose it is."""

    at: datetime
    result: str
    stage: str | None
    code: int | None
    text: str | None
    relay: str | None = None
    """Another than the letter's own: the fallback's. None where it came to no relay."""


@dataclass(frozen=True, slots=True)
class LetterStatus:
    """A letter's state as the ledger has it (docs: ledger states)."""

    id: str
    profile: str
    event_type: str
    state: str
    code: str | None
    reason: str | None
    template: str | None
    revision: str | None
    message_id: str | None
    received: datetime
    updated: datetime
    due: datetime | None
    doubts: int
    attempts: tuple[AttemptStatus, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; times are RFC 3339."""
        return {name: _json_value(value) for name, value in asdict(self).items()}


class StatusReader(Protocol):
    """Where letters are looked up."""

    def find(self, message_id: str) -> list[LetterStatus]:
        """The letters of a message id, oldest first: one for each profile that has it; may block."""
        ...


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return value
