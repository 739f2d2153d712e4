"""What the journey needs at hand: one profile's rules and the world behind its ports."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postroom.delivery.dispatch import BatchOrder, Dispatch
from postroom.letter.catalog import SenderMailbox
from postroom.letter.identity import Identity
from postroom.letter.problems import Problem
from postroom.policy.retry import RetryPolicy
from postroom.ports.ledger import Ledger
from postroom.ports.world import Clock, Templates


class Signer(Protocol):
    """Who signs the letters of a profile that asks for it."""

    def sign(self, content: bytes, sender: str, now: datetime) -> bytes | Problem:
        """The letter with its signatures, or why it must not leave yet; `sender` is its From address."""
        ...


class ReturnPathProvider(Protocol):
    """Who says where reports about a letter come back to, for a profile that wants to read them."""

    def return_path(self, identity: Identity) -> str | Problem | None:
        """The letter's envelope sender; why it must not leave yet; or None: its From address will do."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """One profile's rules for its letters."""

    profile: str
    """`namespace/name`: the first part of every identity."""
    sender: SenderMailbox
    retry: RetryPolicy
    window: float
    """dedupe.window in seconds: older records are refused, their identities are forgotten."""
    parked_for: float = 30 * 86_400.0
    """parkedFor in seconds: so long a letter in doubt waits for a person."""
    suppresses_bounces: bool = False
    """Whether a relay's word that a mailbox does not exist puts the address on the suppression list."""
    from_domains: frozenset[str] = field(default_factory=frozenset)
    """allowedFromDomains; empty means the profile's own."""
    signer: Signer | None = None
    returns: ReturnPathProvider | None = None


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """The post that a batch is carried with."""

    policy: DeliveryPolicy
    ledger: Ledger
    templates: Templates
    dispatch: Dispatch
    clock: Clock
    batch_order: BatchOrder = field(default_factory=BatchOrder)
