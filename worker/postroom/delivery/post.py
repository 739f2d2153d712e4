"""What the journey needs at hand: one profile's rules and the world behind its ports."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postroom.delivery.decide.retry import Policy
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.lanes import Procession
from postroom.letter.catalog import SenderMailbox
from postroom.letter.identity import Identity
from postroom.letter.problems import Problem
from postroom.ports.ledger import Ledger
from postroom.ports.world import Clock, Templates


class Signer(Protocol):
    """Who signs the letters of a profile that asks for it."""

    def sign(self, content: bytes, sender: str, now: datetime) -> bytes | Problem:
        """The letter with its signatures, or why it must not leave yet; `sender` is its From address."""
        ...


class Returns(Protocol):
    """Who says where reports about a letter come back to, for a profile that wants to read them."""

    def return_path(self, identity: Identity) -> str | Problem | None:
        """The letter's envelope sender; why it must not leave yet; or None: its From address will do."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """One profile's rules for its letters."""

    profile: str
    """`namespace/name`: the first part of every identity."""
    sender: SenderMailbox
    policy: Policy
    window: float
    """dedupe.window in seconds: older records are refused, their identities are forgotten."""
    parked_for: float = 30 * 86_400.0
    """parkedFor in seconds: so long a letter in doubt waits for a person."""
    suppresses_bounces: bool = False
    """Whether a relay's word that a mailbox does not exist puts the address on the suppression list."""
    from_domains: frozenset[str] = field(default_factory=frozenset)
    """allowedFromDomains; empty means the profile's own."""
    signer: Signer | None = None
    returns: Returns | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """The post that a batch is carried with."""

    house: House
    ledger: Ledger
    templates: Templates
    dispatch: Dispatch
    clock: Clock
    procession: Procession = field(default_factory=Procession)
