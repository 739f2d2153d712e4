"""Dead letters on a terminal, and as JSON for programs. Addresses are masked unless they are asked for.

The suppression list on a terminal, and as plain values. Addresses are masked unless they are asked for.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from postroom.cli.dead_letters import StoredDeadLetter
from postroom.letter.address import mask_address, mask_addresses
from postroom.ports.ledger import Suppression


def dead_letter_table(found: Sequence[StoredDeadLetter], reveal: bool) -> RenderableType:
    """A line each: when, why, what, for whom."""
    lines = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    lines.add_column("id", no_wrap=True)
    lines.add_column("at", no_wrap=True)
    lines.add_column("problem", style="red", no_wrap=True)
    for name in ("event type", "event id", "recipient"):
        lines.add_column(name, overflow="fold")
    for one in found:
        seen = _summary_fields(one, reveal)
        at = f"{one.at:%Y-%m-%d %H:%M:%S}"
        lines.add_row(
            one.id, at, one.code, *(Text(seen[name]) for name in ("event_type", "event_id", "recipient"))
        )
    return lines


def dead_letter_detail(one: StoredDeadLetter, reveal: bool) -> RenderableType:
    """All that is known of one."""
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(one, reveal):
        facts.add_row(name, Text(value))
    parts: list[RenderableType] = [
        Text(one.code, style="bold red"),
        Padding(facts, (0, 0, 0, 2), expand=False),
    ]
    if reveal:
        parts += [Text(), Text(_content(one))]
    return Group(*parts)


def dead_letter_json(one: StoredDeadLetter, reveal: bool) -> dict[str, Any]:
    """Plain values; the content only where personal data was asked for."""
    found: dict[str, Any] = {
        "id": one.id,
        "at": one.at.isoformat(),
        "code": one.code,
        "field": one.field,
        "problem": one.problem if reveal else mask_addresses(one.problem),
        "attempts": one.attempts,
        "topic": one.record.topic,
        "partition": one.record.partition,
        "offset": one.record.offset,
        "replay_id": one.replay_id,
        "content_omitted": one.content_omitted,
        **_summary_fields(one, reveal),
    }
    if reveal:
        found["key"] = _decoded(one.record.key)
        found["value"] = _decoded(one.record.value)
        found["headers"] = [[name, _decoded(said)] for name, said in one.record.headers]
    return found


def _facts(one: StoredDeadLetter, reveal: bool) -> Iterator[tuple[str, str]]:
    seen = _summary_fields(one, reveal)
    yield "id", one.id
    yield "at", f"{one.at:%Y-%m-%d %H:%M:%S} UTC"
    yield "field", one.field
    yield "problem", one.problem if reveal else mask_addresses(one.problem)
    yield "attempts", str(one.attempts)
    for name in ("event_type", "event_id", "recipient"):
        if seen[name]:
            yield name.replace("_", " "), seen[name]
    yield "record", f"{one.record.topic} partition {one.record.partition} offset {one.record.offset}"
    yield "dead letter", one.position
    yield "headers", ", ".join(name for name, _ in one.record.headers) or "none"
    yield "content", _content_note(one)


def _content_note(one: StoredDeadLetter) -> str:
    if one.content_omitted:
        return "was too large for the dead-letter topic, and its own topic has it no more"
    return f"{len(one.record.value or b''):,} bytes; --reveal shows it"


def _content(one: StoredDeadLetter) -> str:
    try:
        return json.dumps(json.loads(one.record.value or b""), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return _decoded(one.record.value) or ""


def _summary_fields(one: StoredDeadLetter, reveal: bool) -> dict[str, str]:
    told = one.summary
    recipient = told.recipient if reveal or not told.recipient else mask_address(told.recipient)
    event_id = told.event_id if reveal else mask_addresses(told.event_id)
    return {"event_type": told.event_type, "event_id": event_id, "recipient": recipient}


def _decoded(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="replace")


ERASED = "(erased)"


def suppression_table(found: Sequence[Suppression], reveal: bool) -> Table:
    """A line an entry."""
    lines = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("since", "profile", "reason", "address"):
        lines.add_column(name, no_wrap=True)
    lines.add_column("note", overflow="fold")
    for one in found:
        told = suppression_json(one, reveal)
        row = (
            f"{one.at:%Y-%m-%d %H:%M}",
            one.profile,
            one.reason.value,
            told["address"] or ERASED,
            told["note"],
        )
        lines.add_row(*map(Text, row))
    return lines


def suppression_json(one: Suppression, reveal: bool) -> dict[str, Any]:
    """Plain values."""
    address = one.address if reveal or one.address is None else mask_address(one.address)
    note = one.note if reveal else mask_addresses(one.note)
    at = one.at.isoformat()
    return {"profile": one.profile, "address": address, "reason": one.reason.value, "at": at, "note": note}
