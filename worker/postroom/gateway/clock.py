"""The gateway's time and chance; everything else of it takes them as arguments."""

import os
from datetime import UTC, datetime

from postroom.gateway.ids import time_ordered_id


def now() -> datetime:
    """Aware UTC."""
    return datetime.now(UTC)


def new_id(at: datetime) -> str:
    """A message id that nobody else has."""
    return time_ordered_id(at, os.urandom(10))
