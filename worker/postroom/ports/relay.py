"""The relay: what carries letters over SMTP, and the facts it reports.

In: parcels (an envelope and its content). Out: one Result for each. It asks the fence before content
leaves, and it never decides what a reply means.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Stage(StrEnum):
    """Where in the SMTP dialogue a fact was learnt (RFC 5321 §4.1.4)."""

    CONNECT = "connect"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    END_OF_DATA = "end_of_data"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path and the one forward-path of a transaction, both validated (RFC 5321 §4.1.2)."""

    sender: str
    recipient: str
    smtputf8: bool = False


class OutboundMessage(Protocol):
    """What a relay carries. Compared by identity; the relay adds nothing to it."""

    @property
    def envelope(self) -> Envelope: ...
    @property
    def content(self) -> bytes:
        """The message: CRLF line ends, dot-stuffed, ending in CRLF, without the final lone dot."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """The relay's answer that decided the transaction: the first refusal, or the reply to the dot."""

    stage: Stage
    code: int
    text: str
    """All lines of the reply, joined by a space, without the code; at most 512 characters, printable."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The dialogue ended without an answer. `dot_sent`: the last byte of CRLF.CRLF went to the socket."""

    stage: Stage
    end_of_data_sent: bool
    reason: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """The parcel never left: the fence refused it, or the relay was draining."""

    fenced: bool
    """True: the fence refused it, somebody else owns the letter now. False: handed back on drain."""


class HoldReason(StrEnum):
    """Why a parcel was not handed to the relay."""

    CIRCUIT = "circuit"
    RATE = "rate"
    RECIPIENT_RATE = "recipient_rate"


@dataclass(frozen=True, slots=True)
class Postponed:
    """The parcel was not handed over, and nothing is known against it: it may come again in `seconds`."""

    hold_reason: HoldReason
    seconds: float
    reason: str


Result = Reply | Lost | NotSent | Postponed


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` letters in `seconds`, wherever such a window begins."""

    count: int
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class FenceGrant:
    """The fence's answer: the parcels whose `sending` is durable, and how long that may be relied on."""

    messages: Collection[OutboundMessage]
    until: float
    """Monotonic seconds; content must not leave after it. `math.inf` where a lock replaces the lease."""


Fence = Callable[[Sequence[OutboundMessage]], Awaitable[FenceGrant]]
Report = Callable[[Sequence[tuple[OutboundMessage, Result]]], None]


class Relay(Protocol):
    """A pool of SMTP connections to one relay. One event loop; no method blocks it."""

    async def open(self, fence: Fence) -> None:
        """Start; `fence` is asked, in groups, for every parcel before its content leaves."""
        ...

    def deliver(self, messages: Iterable[OutboundMessage], report: Report) -> None:
        """Queue parcels, first come first served; `report` gets each one's Result, in groups."""
        ...

    async def drain(self, grace: float) -> None:
        """Hand back what has not reached its content, wait up to `grace` seconds for the rest, close."""
        ...

    def limit(self, rate: Rate | None) -> None:
        """Hand over no more than this from now on; None: as fast as it goes, a count of 0: nothing."""
        ...

    @property
    def last_error(self) -> str:
        """Why the last attempt to reach the relay failed; empty when it did not."""
        ...

    @property
    def reachable(self) -> bool | None:
        """Whether the last attempt to reach the relay worked; None before the first."""
        ...
