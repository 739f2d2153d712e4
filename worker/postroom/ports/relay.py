"""The port to an SMTP relay.

In: outbound messages, each an envelope and its content. Out: one `Result` for each message. An
implementation calls the fence before the content of a message leaves. It reports facts; `policy.replies`
decides what a reply means.

Failure: a connection that fails is reported as `Lost`; no method raises because of the relay.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Stage(StrEnum):
    """The step of the SMTP session in which a result was observed (RFC 5321 §4.1.4)."""

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
    """The reverse-path and the single forward-path of a transaction, both validated (RFC 5321 §4.1.2)."""

    sender: str
    recipient: str
    smtputf8: bool = False


class OutboundMessage(Protocol):
    """A message to send. Compared by identity; the relay adapter adds nothing to it."""

    @property
    def envelope(self) -> Envelope: ...
    @property
    def content(self) -> bytes:
        """The message: CRLF line ends, dot-stuffed, ending in CRLF, without the final `.` line."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply that decided the transaction: the first rejection, or the reply to the end of data."""

    stage: Stage
    code: int
    text: str
    """All lines of the reply, joined by a space, without the code; at most 512 characters, printable."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The session ended without a reply. `end_of_data_sent`: the kernel took the last byte of CRLF.CRLF.

    Under TLS: it took the last byte of the last record that carries the content.
    """

    stage: Stage
    end_of_data_sent: bool
    reason: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """The content never left: the fence refused it, or the pool was draining."""

    fenced: bool
    """True: the fence refused it, because another worker owns the letter now. False: returned unsent."""


class HoldReason(StrEnum):
    """Why a message was not given to the relay."""

    CIRCUIT = "circuit"
    RATE = "rate"
    RECIPIENT_RATE = "recipient_rate"


@dataclass(frozen=True, slots=True)
class Postponed:
    """The message was not given to the relay and may be sent again after `seconds`."""

    hold_reason: HoldReason
    seconds: float
    reason: str


Result = Reply | Lost | NotSent | Postponed


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` letters in any window of `seconds`."""

    count: int
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class FenceGrant:
    """The reply of the fence: the messages whose state `sending` is durable, and until when that holds."""

    messages: Collection[OutboundMessage]
    until: float
    """Monotonic seconds; content must not leave after it. `math.inf` where a lock replaces the lease."""


Fence = Callable[[Sequence[OutboundMessage]], Awaitable[FenceGrant]]
Report = Callable[[Sequence[tuple[OutboundMessage, Result]]], None]


class Relay(Protocol):
    """A pool of SMTP connections to one relay. All methods run on one event loop and never block it."""

    async def open(self, fence: Fence) -> None:
        """Start. `fence` is called, in groups, for every message before its content leaves."""
        ...

    def deliver(self, messages: Iterable[OutboundMessage], report: Report) -> None:
        """Queue messages in order; `report` receives the Result of each message, in groups."""
        ...

    async def drain(self, grace: float) -> None:
        """Return messages whose content was not begun, wait up to `grace` seconds for the others, close."""
        ...

    def limit(self, rate: Rate | None) -> None:
        """Limit the sending rate from now on. None removes the limit; a count of 0 stops sending."""
        ...

    @property
    def last_error(self) -> str:
        """The reason of the last failed connection attempt; empty after a successful one."""
        ...

    @property
    def reachable(self) -> bool | None:
        """Whether the last connection attempt succeeded; None before the first attempt."""
        ...
