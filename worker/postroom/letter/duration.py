"""Durations as Kubernetes writes them: `5m`, `90s`, `1h30m`, `500ms`.

Text in, seconds out; a text that is no duration raises ValueError with the rule and an example.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

LONGEST = 366 * 24 * 3600.0
"""No duration of a manifest is longer than a leap year; more is a typing mistake."""

_PARTS = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,8})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,12})ms)?", re.ASCII)


def seconds(text: str) -> float:
    """The length of a duration in seconds; `h`, `m`, `s`, `ms`, in this order, whole numbers."""
    match = _PARTS.fullmatch(text)
    if not text or not match:
        raise ValueError(
            f"{text[:40]!r} is not a duration; write whole hours, minutes, seconds like 1h30m, 90s or 500ms"
        )
    hours, minutes, secs, millis = (int(part or 0) for part in match.groups())
    total = hours * 3600.0 + minutes * 60.0 + secs + millis / 1000.0
    if total > LONGEST:
        raise ValueError(f"{text} is longer than a year (8784h), the longest duration allowed")
    return total


def _check(text: str) -> str:
    if seconds(text) <= 0:
        raise ValueError(f"{text} is no time at all; the duration must be longer than zero")
    return text


Duration = Annotated[str, Field(max_length=32), AfterValidator(_check)]
"""A field of a manifest: the text as it was written, known to parse and to be longer than zero."""
