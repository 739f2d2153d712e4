"""Message ids that sort by time: UUID version 7 (RFC 9562 §5.7)."""

import secrets
from datetime import datetime
from uuid import UUID


def time_ordered_id(now: datetime, chance: bytes) -> str:
    """A UUIDv7 from an aware time and 10 random bytes, as its 36-character text."""
    milliseconds = int(now.timestamp() * 1000)
    bits = int.from_bytes(milliseconds.to_bytes(6) + chance[:10])
    bits = bits & ~(0xF << 76) | 0x7 << 76  # version
    bits = bits & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(UUID(int=bits))


def new_id(now: datetime) -> str:
    """A message id that nobody else has."""
    return time_ordered_id(now, secrets.token_bytes(10))
