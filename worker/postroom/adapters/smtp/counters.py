"""What a pool counted since it began: plain integers, read by the metrics."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class CloseCause(StrEnum):
    """Why a connection ended."""

    QUIT = "quit"
    """We took leave: the allowance was used, or it was idle."""
    CLOSING = "closing"
    """The relay said 421."""
    CLOSED = "closed"
    """The relay, or the network, ended it without a word."""
    DEADLINE = "deadline"
    UNSOLICITED = "unsolicited"
    """A reply that answers nothing."""
    PROTOCOL_ERROR = "protocol_error"
    """A reply that cannot follow what was said, or no reply at all."""
    NOT_SENT = "not_sent"
    """354 was read for a letter that must not be sent."""
    RESEQUENCED = "resequenced"
    """The answer to the dot took long; the letter whose envelope had travelled with it went another way."""
    DRAINED = "drained"


@dataclass(slots=True)
class RelayCounters:
    """Only ever grows. Read it at any time; nothing is reset."""

    connects: int = 0
    """Connections that were greeted, secured and logged in."""
    connect_failures: int = 0
    letters: int = 0
    """Letters whose content was sent, or begun."""
    pipelined: int = 0
    """Those of them with which the next letter's envelope travelled."""
    fence_calls: int = 0
    drops: Counter[CloseCause] = field(default_factory=Counter)
    """Connections ended, by cause."""
    accepted: int = 0
    deferred: int = 0
    """Answers of 4yz."""
    refused: int = 0
    """Answers of 5yz, and objections that spared the relay the question."""
    lost: int = 0
    in_doubt: int = 0
    not_sent: int = 0
