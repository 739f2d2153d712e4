"""What an application says: one event, one letter to one recipient."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record as it was read; `timestamp` is the broker's or producer's, aware UTC."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that travels with the letter; `filename` is a bare name, never a path."""

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """A validated event. Addresses are normalized (domain as IDNA A-label); times are aware UTC.

    `recipient` is the bare address (local@domain). `data` is what the template sees.
    """

    id: str
    source: str
    type: str
    recipient: str
    time: datetime
    data: Mapping[str, Any]
    locale: str | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    reply_to: str | None = None
    attachments: tuple[Attachment, ...] = ()
    traceparent: str | None = None
    revision: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    """Facts worth showing to a person, e.g. `mixed_script_domain`."""


def parse(record: Record) -> Event:
    """Read an event in CloudEvents binary or structured mode, or in the plain envelope.

    Raises Rejected with every problem found. A tombstone (`value is None`) is the caller's to skip.
    """
    raise NotImplementedError
