"""What the pipeline needs for one profile: its delivery policy, the ledger, templates, dispatch and clock."""

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
    """Signs letters with DKIM."""

    def sign(self, content: bytes, sender: str, now: datetime) -> bytes | Problem:
        """Return the signed letter, or the problem that prevents sending; `sender` is its From address."""
        ...


class ReturnPathProvider(Protocol):
    """Builds the envelope sender of a letter for a profile that processes bounce reports."""

    def return_path(self, identity: Identity) -> str | Problem | None:
        """Return the envelope sender, the problem that forbids sending now, or None for the From address."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """The settings of one profile that the pipeline applies to every letter."""

    profile: str
    """`namespace/name`: the first part of every identity."""
    sender: SenderMailbox
    retry: RetryPolicy
    window: float
    """dedupe.window in seconds: older records are refused, because their identities are deleted."""
    parked_for: float = 30 * 86_400.0
    """parkedFor in seconds: how long a letter in doubt waits for a person's decision."""
    suppresses_bounces: bool = False
    """Whether a reply that the mailbox does not exist puts the address on the suppression list."""
    from_domains: frozenset[str] = field(default_factory=frozenset)
    """allowedFromDomains; empty means only the domain of `sender`."""
    signer: Signer | None = None
    returns: ReturnPathProvider | None = None


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """Everything that the pipeline steps share while they process the batches of one profile."""

    policy: DeliveryPolicy
    ledger: Ledger
    templates: Templates
    dispatch: Dispatch
    clock: Clock
    batch_order: BatchOrder = field(default_factory=BatchOrder)
