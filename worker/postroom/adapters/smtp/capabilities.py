"""What a relay offers, read from its answer to EHLO (RFC 5321 §4.1.1.1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The extensions that change what we send. Read again after STARTTLS: those before it don't count."""

    pipelining: bool = False
    size: bool = False
    """SIZE is offered and may be declared (RFC 1870)."""
    size_limit: int | None = None
    """Octets a letter may have; None when the relay names no limit."""
    eightbit: bool = False
    smtputf8: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()


def read_capabilities(text: bytes) -> Capabilities:
    """The text of a reply to EHLO, lines joined by newlines; the first line is the relay's name."""
    offered: dict[str, list[str]] = {}
    for line in text.decode("ascii", "replace").upper().split("\n")[1:]:
        keyword, *words = line.replace("AUTH=", "AUTH ", 1).split() or [""]
        offered.setdefault(keyword, []).extend(words)
    size = offered.get("SIZE")
    limit = int(size[0]) if size and size[0].isdigit() and size[0].isascii() else 0
    return Capabilities(
        pipelining="PIPELINING" in offered,
        size=size is not None,
        size_limit=limit or None,
        eightbit="8BITMIME" in offered,
        smtputf8="SMTPUTF8" in offered,
        starttls="STARTTLS" in offered,
        auth=frozenset(offered.get("AUTH", ())),
    )
