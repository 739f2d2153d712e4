"""Dead letters on a terminal, and as JSON for programs. Addresses are masked unless they are asked for."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from postroom.desk.deadletters import DeadLetter
from postroom.letter.address import mask_address, mask_addresses


def table(found: Sequence[DeadLetter], reveal: bool) -> RenderableType:
    """A line each: when, why, what, for whom."""
    lines = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    lines.add_column("id", no_wrap=True)
    lines.add_column("at", no_wrap=True)
    lines.add_column("problem", style="red", no_wrap=True)
    for name in ("event type", "event id", "recipient"):
        lines.add_column(name, overflow="fold")
    for one in found:
        seen = _seen(one, reveal)
        at = f"{one.at:%Y-%m-%d %H:%M:%S}"
        lines.add_row(
            one.id, at, one.code, *(Text(seen[name]) for name in ("event_type", "event_id", "recipient"))
        )
    return lines


def whole(one: DeadLetter, reveal: bool) -> RenderableType:
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


def as_json(one: DeadLetter, reveal: bool) -> dict[str, Any]:
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
        "content_omitted": one.omitted,
        **_seen(one, reveal),
    }
    if reveal:
        found["key"] = _text(one.record.key)
        found["value"] = _text(one.record.value)
        found["headers"] = [[name, _text(said)] for name, said in one.record.headers]
    return found


def _facts(one: DeadLetter, reveal: bool) -> Iterator[tuple[str, str]]:
    seen = _seen(one, reveal)
    yield "id", one.id
    yield "at", f"{one.at:%Y-%m-%d %H:%M:%S} UTC"
    yield "field", one.field
    yield "problem", one.problem if reveal else mask_addresses(one.problem)
    yield "attempts", str(one.attempts)
    for name in ("event_type", "event_id", "recipient"):
        if seen[name]:
            yield name.replace("_", " "), seen[name]
    yield "record", f"{one.record.topic} partition {one.record.partition} offset {one.record.offset}"
    yield "dead letter", one.where
    yield "headers", ", ".join(name for name, _ in one.record.headers) or "none"
    yield "content", _about(one)


def _about(one: DeadLetter) -> str:
    if one.omitted:
        return "was too large for the dead-letter topic, and its own topic has it no more"
    return f"{len(one.record.value or b''):,} bytes; --reveal shows it"


def _content(one: DeadLetter) -> str:
    try:
        return json.dumps(json.loads(one.record.value or b""), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return _text(one.record.value) or ""


def _seen(one: DeadLetter, reveal: bool) -> dict[str, str]:
    told = one.who
    recipient = told.recipient if reveal or not told.recipient else mask_address(told.recipient)
    event_id = told.event_id if reveal else mask_addresses(told.event_id)
    return {"event_type": told.event_type, "event_id": event_id, "recipient": recipient}


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="replace")
