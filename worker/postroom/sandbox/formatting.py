"""Format sizes, times, numbers and addresses for the pages of inbox and studio. Times are in UTC."""

from datetime import UTC, datetime

import idna

_UNITS = ("KB", "MB", "GB")


def format_size(number: int) -> str:
    """A number of bytes, in powers of 1,024: `24.1 KB`."""
    if number < 1024:
        return f"{number} bytes"
    value, unit = float(number), "bytes"
    for unit in _UNITS:  # noqa: B007 - the unit reached is used below
        value /= 1024
        if value < 1024:
            break
    return f"{value:.0f} {unit}" if value >= 100 or value.is_integer() else f"{value:.1f} {unit}"


def format_count(number: int, singular: str, plural: str | None = None) -> str:
    """A number and its noun: `1 letter`, `1,284 letters`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def from_milliseconds(milliseconds: int) -> datetime:
    """Milliseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def format_time(moment: datetime) -> str:
    """Date and time: `23 Nov 2026, 16:02:41 UTC`."""
    return f"{moment.day} {moment:%b %Y, %H:%M:%S} UTC"


def format_recent_time(moment: datetime, now: datetime) -> str:
    """The time of day, after the date if that is not today."""
    return (
        f"{moment:%H:%M:%S}"
        if moment.date() == now.date()
        else f"{format_day(moment, now)}, {moment:%H:%M:%S}"
    )


def format_day(moment: datetime, now: datetime) -> str:
    """The day: `Today`, `22 Nov`, or `22 Nov 2025` for another year."""
    if moment.date() == now.date():
        return "Today"
    return f"{moment.day} {moment:%b}" + ("" if moment.year == now.year else f" {moment.year}")


def display_address(text: str) -> str:
    """An address with its domain in Unicode, if that encodes back to the same domain; else unchanged."""
    local, at_sign, domain = text.rpartition("@")
    if not at_sign or "xn--" not in domain.lower():
        return text
    try:
        decoded = idna.decode(domain)
        return f"{local}@{decoded}" if idna.encode(decoded).decode() == domain.lower() else text
    except UnicodeError:  # idna's own errors are UnicodeErrors
        return text
