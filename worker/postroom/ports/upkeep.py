"""What a person does to a ledger beside its workers: erase somebody, keep the suppression list.

Short transactions, each durable when the call returns; the workers go on meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Protocol

from postroom.ports.suppression import Reason, Suppression


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed from one ledger, or would remove."""

    letters: int = 0
    """Rows that have no address, no names and no texts any more."""
    withdrawn: int = 0
    """Of these, letters that waited to be sent, and will not be."""
    attempts: int = 0
    """Relays' answers that were removed."""
    reports: int = 0
    """Reports about letters whose words were removed."""
    dead_letters: int = 0
    """Taken out of the outbox, before they were published."""
    notices: int = 0
    """Messages to others that were not delivered yet."""
    suppressions: int = 0
    """Entries of the suppression list: in force by their digest, without the address."""
    under_way: int = field(default=0)
    """Letters in a worker's hand, left as they are: ask again in a moment."""

    def __add__(self, other: "Erased") -> "Erased":
        return Erased(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


class Upkeep(Protocol):
    """One ledger, opened by the side of its workers."""

    def erase(self, address: str, now: datetime, dry_run: bool) -> Erased:
        """Remove a person's data; the letters stay known by the digests of their identities."""
        ...

    def suppressions(self, profile: str = "", address: str = "") -> Sequence[Suppression]:
        """The list, oldest first; of one profile or one address where they are given."""
        ...

    def suppress(self, entries: Sequence[Suppression]) -> int:
        """Put entries on the list; how many are new."""
        ...

    def lift(self, profile: str, address: str, reason: Reason | None) -> int:
        """Take an address off a profile's list, for one reason or all; how many entries went."""
        ...

    def profiles(self) -> Sequence[str]:
        """The profiles whose letters or lists are in this ledger."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
