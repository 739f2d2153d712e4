"""Counters of a pool since it was created: plain integers that the metrics adapter reads."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class CloseCause(StrEnum):
    """Why a connection ended."""

    QUIT = "quit"
    """The client sent QUIT: the connection had carried its last message, or was idle."""
    CLOSING = "closing"
    """The relay replied 421."""
    CLOSED = "closed"
    """The relay or the network closed it without a reply."""
    DEADLINE = "deadline"
    """A reply was overdue."""
    UNSOLICITED = "unsolicited"
    """A reply without a command."""
    PROTOCOL_ERROR = "protocol_error"
    """A reply that is invalid after the command, or bytes that are no SMTP reply."""
    NOT_SENT = "not_sent"
    """The relay replied 354 for a letter that must not be sent."""
    RESEQUENCED = "resequenced"
    """The reply to the end of data was slow; the next letter, whose envelope was sent, went elsewhere."""
    DRAINED = "drained"
    """The pool was draining."""


@dataclass(slots=True)
class RelayCounters:
    """Counters only grow; nothing resets them. Safe to read at any time."""

    connects: int = 0
    """Connections that completed greeting, TLS and authentication."""
    connect_failures: int = 0
    letters: int = 0
    """Letters whose content was written to a connection, in whole or in part."""
    pipelined: int = 0
    """Letters of these whose content was followed by the envelope of the next letter in one write."""
    fence_calls: int = 0
    drops: Counter[CloseCause] = field(default_factory=Counter)
    """Closed connections, by cause."""
    accepted: int = 0
    deferred: int = 0
    """Replies with a 4yz code."""
    refused: int = 0
    """Replies with a 5yz code, including those that the client made in place of the relay."""
    lost: int = 0
    in_doubt: int = 0
    not_sent: int = 0
