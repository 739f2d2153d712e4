"""Dead letters and suppressions as tables for people and as JSON values for programs.

Addresses are masked, and a dead letter's content is left out, unless the caller sets `reveal`.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from postroom.cli.dead_letters import StoredDeadLetter
from postroom.letter.address import mask_address, mask_addresses
from postroom.local.terminal import facts_table, plain_table
from postroom.ports.ledger import Suppression


def dead_letter_table(dead_letters: Sequence[StoredDeadLetter], reveal: bool) -> RenderableType:
    """Return a table with a line for each dead letter."""
    lines = plain_table()
    lines.add_column("id", no_wrap=True)
    lines.add_column("at", no_wrap=True)
    lines.add_column("problem", style="red", no_wrap=True)
    for name in ("event type", "event id", "recipient"):
        lines.add_column(name, overflow="fold")
    for dead_letter in dead_letters:
        seen = _summary_fields(dead_letter, reveal)
        at = f"{dead_letter.at:%Y-%m-%d %H:%M:%S}"
        lines.add_row(
            dead_letter.id,
            at,
            dead_letter.code,
            *(Text(seen[name]) for name in ("event_type", "event_id", "recipient")),
        )
    return lines


def dead_letter_detail(dead_letter: StoredDeadLetter, reveal: bool) -> RenderableType:
    """All that is known of dead_letter."""
    parts: list[RenderableType] = [
        Text(dead_letter.code, style="bold red"),
        facts_table(_facts(dead_letter, reveal)),
    ]
    if reveal:
        parts += [Text(), Text(_content(dead_letter))]
    return Group(*parts)


def dead_letter_json(dead_letter: StoredDeadLetter, reveal: bool) -> dict[str, Any]:
    """Return a dead letter as JSON values; key, value and headers only with `reveal`."""
    found: dict[str, Any] = {
        "id": dead_letter.id,
        "at": dead_letter.at.isoformat(),
        "code": dead_letter.code,
        "field": dead_letter.field,
        "problem": dead_letter.problem if reveal else mask_addresses(dead_letter.problem),
        "attempts": dead_letter.attempts,
        "topic": dead_letter.record.topic,
        "partition": dead_letter.record.partition,
        "offset": dead_letter.record.offset,
        "replay_id": dead_letter.replay_id,
        "content_omitted": dead_letter.content_omitted,
        **_summary_fields(dead_letter, reveal),
    }
    if reveal:
        found["key"] = _decoded(dead_letter.record.key)
        found["value"] = _decoded(dead_letter.record.value)
        found["headers"] = [[name, _decoded(value)] for name, value in dead_letter.record.headers]
    return found


def _facts(dead_letter: StoredDeadLetter, reveal: bool) -> Iterator[tuple[str, str]]:
    seen = _summary_fields(dead_letter, reveal)
    yield "id", dead_letter.id
    yield "at", f"{dead_letter.at:%Y-%m-%d %H:%M:%S} UTC"
    yield "field", dead_letter.field
    yield "problem", dead_letter.problem if reveal else mask_addresses(dead_letter.problem)
    yield "attempts", str(dead_letter.attempts)
    for name in ("event_type", "event_id", "recipient"):
        if seen[name]:
            yield name.replace("_", " "), seen[name]
    record = dead_letter.record
    yield "record", f"{record.topic} partition {record.partition} offset {record.offset}"
    yield "dead letter", dead_letter.position
    yield "headers", ", ".join(name for name, _ in dead_letter.record.headers) or "none"
    yield "content", _content_note(dead_letter)


def _content_note(dead_letter: StoredDeadLetter) -> str:
    if dead_letter.content_omitted:
        return "too large for the dead-letter topic, and no longer on its source topic"
    return f"{len(dead_letter.record.value or b''):,} bytes; --reveal shows it"


def _content(dead_letter: StoredDeadLetter) -> str:
    try:
        return json.dumps(json.loads(dead_letter.record.value or b""), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return _decoded(dead_letter.record.value) or ""


def _summary_fields(dead_letter: StoredDeadLetter, reveal: bool) -> dict[str, str]:
    summary = dead_letter.summary
    recipient = summary.recipient if reveal or not summary.recipient else mask_address(summary.recipient)
    event_id = summary.event_id if reveal else mask_addresses(summary.event_id)
    return {"event_type": summary.event_type, "event_id": event_id, "recipient": recipient}


def _decoded(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="replace")


ERASED = "(erased)"


def suppression_table(suppressions: Sequence[Suppression], reveal: bool) -> Table:
    """Return a table with a line for each suppression."""
    lines = plain_table()
    for name in ("since", "profile", "reason", "address"):
        lines.add_column(name, no_wrap=True)
    lines.add_column("note", overflow="fold")
    for suppression in suppressions:
        values = suppression_json(suppression, reveal)
        row = (
            f"{suppression.at:%Y-%m-%d %H:%M}",
            suppression.profile,
            suppression.reason.value,
            values["address"] or ERASED,
            values["note"],
        )
        lines.add_row(*map(Text, row))
    return lines


def suppression_json(suppression: Suppression, reveal: bool) -> dict[str, Any]:
    """Return a suppression as JSON values."""
    address = (
        suppression.address if reveal or suppression.address is None else mask_address(suppression.address)
    )
    note = suppression.note if reveal else mask_addresses(suppression.note)
    at = suppression.at.isoformat()
    return {
        "profile": suppression.profile,
        "address": address,
        "reason": suppression.reason.value,
        "at": at,
        "note": note,
    }
