"""Which headers a template may add to its letters.

An allow-list: everything that addresses, routes, signs or describes the letter belongs to Postroom
or the relay, and a header nobody knew of at the time of writing is not let through by accident.
"""

import re

ALLOWED = frozenset(
    {
        "feedback-id",
        "importance",
        "keywords",
        "list-archive",
        "list-help",
        "list-id",
        "list-owner",
        "organization",
        "precedence",
        "priority",
        "sensitivity",
    }
)
"""In lower case; `X-…` names are allowed as well, but for RESERVED."""

RESERVED = ("x-auto-response-suppress", "x-envelope-", "x-forwarded-", "x-original-", "x-postroom-")
"""Beginnings of X- names that Postroom writes itself or that relays act upon."""

_NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")


def header_rule(name: str) -> str | None:
    """The rule that an additional header's name breaks, or None when it is allowed."""
    if not _NAME.fullmatch(name):
        return "is not a header name; letters, digits and single hyphens only"
    lower = name.lower()
    if lower.startswith(RESERVED):
        return f"{name} is written by Postroom or read by relays; choose another X- name"
    if lower.startswith("x-") or lower in ALLOWED:
        return None
    allowed = ", ".join(sorted(header.title() for header in ALLOWED))
    return f"{name} is not among the headers a template may set: X-…, {allowed}"
