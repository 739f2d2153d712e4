"""A message of the client library, as the record it carries.

Anybody may write to a topic, so nothing in a message may end the worker: a time that is no date becomes the
first one, and headers that cannot be read make a record that says so.
"""

from datetime import UTC, datetime

from confluent_kafka import Message

from postroom.letter.event import Record

HEADER_NAME_UNREADABLE = "a header's name is not UTF-8"

Headers = tuple[tuple[str, bytes | None], ...]


def record_of(message: Message) -> Record:
    """The record of a message that carries no error; never raises."""
    headers, unreadable = _headers(message)
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp=_moment(message.timestamp()[1]),
        key=message.key(),
        value=message.value(),
        headers=headers,
        unreadable=unreadable,
    )


def _headers(message: Message) -> tuple[Headers, str]:
    """The headers, or why there are none: the library decodes their names and has no gentler answer."""
    try:
        return tuple(message.headers() or ()), ""  # type: ignore[arg-type]
    except (SystemError, UnicodeDecodeError):
        return (), HEADER_NAME_UNREADABLE


def _moment(milliseconds: int) -> datetime:
    """A producer may write any number there; one that is no date must not end the worker."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
