"""A report about a letter, as facts: what kind it is and what it says, and nothing of what follows
from it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a message to a return path is. The first five are the actions of RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    COMPLAINT = "complaint"
    """An abuse report (RFC 5965)."""
    IGNORED = "ignored"
    """A program's answer that says nothing of the delivery: a vacation notice, a read receipt."""
    UNPARSED = "unparsed"
    """None that a program can read: kept for a person."""


ACTIONS = (Kind.FAILED, Kind.DELAYED, Kind.DELIVERED, Kind.RELAYED, Kind.EXPANDED)


@dataclass(frozen=True, slots=True)
class Said:
    """What a report says of one recipient."""

    kind: Kind
    status: str = ""
    """RFC 3463, `5.1.1`; the most telling that the report has."""
    text: str = ""
    """The words of the mail system that spoke; may name people."""
    mta: str = ""
    """Who reports it."""
    recipients: tuple[str, ...] = ()
    """The addresses that it is about, in lower case: the final one, and the one that was written to."""


@dataclass(frozen=True, slots=True)
class Report:
    """One message that came back."""

    fingerprint: str
    """The same when the same message comes again."""
    said: tuple[Said, ...]
    """At least one."""
    paths: tuple[str, ...] = ()
    """What it quotes that may be a return path, for a report that came to another address."""


_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)", re.ASCII)


def status_in(text: str) -> str:
    """The first enhanced status code in a text; empty where there is none."""
    found = _STATUS.search(text)
    return found[1] if found else ""


def more_telling(status: str, diagnostic: str) -> str:
    """The status of a report. Some systems write 5.0.0 and leave the rest to what the other side had said."""
    said = status_in(status)
    if said and not said.endswith(".0.0"):
        return said
    quoted = status_in(diagnostic)
    return quoted if quoted and quoted[0] == (said or quoted)[0] else said
