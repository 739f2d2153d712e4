"""The suppression list: addresses that a profile does not write to, and why.

An entry is known by the digest of its address, so that erasing a person leaves the entry in force.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b


class Reason(StrEnum):
    """Why an address is on the list."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One entry; an address may have one for each reason."""

    profile: str
    address: str | None
    """None: the person was erased, the digest is left."""
    reason: Reason
    at: datetime
    note: str = ""
    """What gave cause: a relay's words, a person's. May hold the address."""


def address_hash(address: str) -> str:
    """The digest that an address is known by, however its letters are written."""
    return blake2b(address.lower().encode(), digest_size=16, person=b"suppression").hexdigest()
