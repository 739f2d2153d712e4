"""Dead letters as a person looks at them: what the record was, what was wrong with it, what chooses some.

In: records of a dead-letter topic. Out: DeadLetter values, the newest of each id, oldest first. Pure.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from postroom.letter.event import LATE_REPLAY_HEADER, REPLAY_HEADER, Record, parse_event
from postroom.letter.problems import Code, Rejected

OURS = "postroom_"
"""What the names of Postroom's own headers begin with; no event's."""


@dataclass(frozen=True, slots=True)
class Who:
    """What can be told of the event, also where it is none; empty where nothing can be told."""

    event_id: str = ""
    event_type: str = ""
    recipient: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter: its problem and the record that it was."""

    id: str
    at: datetime
    code: str
    field: str
    problem: str
    attempts: int
    record: Record
    """As it was published: topic, partition and offset are those of the dead letter's source."""
    where: str
    """Where the dead letter itself stands."""
    omitted: bool
    """The record was too large: only its source has it."""
    who: Who

    @property
    def replay_id(self) -> str:
        """The same for every replay of this dead letter, so that it counts once."""
        return f"{self.id}#{blake2b(self.record.value or b'', digest_size=4).hexdigest()}"

    def as_replay(self) -> Record:
        """The record to publish. One that expired goes out late: without that it would expire again."""
        own = (
            (REPLAY_HEADER, self.replay_id.encode()),
            *([(LATE_REPLAY_HEADER, b"yes")] if self.code == Code.EXPIRED else []),
        )
        return replace(self.record, headers=(*self.record.headers, *own))


@dataclass(frozen=True, slots=True)
class Choice:
    """What chooses dead letters; what is empty chooses all."""

    ids: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    event_type: str = ""
    recipient: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing was chosen by."""
        return self == Choice()

    def takes(self, one: DeadLetter) -> bool:
        """Whether this one is meant. An id may be the dead letter's, or the event's."""
        return (
            (not self.ids or one.id in self.ids or one.who.event_id in self.ids)
            and (not self.codes or one.code in self.codes)
            and (not self.event_type or one.who.event_type == self.event_type)
            and (not self.recipient or one.who.recipient.lower() == self.recipient.lower())
            and (self.since is None or one.at >= self.since)
            and (self.until is None or one.at < self.until)
        )


def read(records: Iterable[Record], topic: str) -> list[DeadLetter]:
    """The dead letters of an event topic; one that was published twice, as may happen, is one."""
    found = {one.id: one for record in records for one in _dead_letter(record, topic)}
    return sorted(found.values(), key=lambda one: one.at)


def _dead_letter(record: Record, topic: str) -> Iterator[DeadLetter]:
    told = {name: (said or b"").decode(errors="replace") for name, said in record.headers if name[:9] == OURS}
    id_ = told.get("postroom_dead_letter_id", "")
    source = _place(told.get("postroom_source", id_))
    if not id_ or source is None:
        return  # somebody else's record: there is nothing to say of it
    headers = tuple(each for each in record.headers if not each[0].startswith(OURS))
    was = replace(record, topic=topic, partition=source[1], offset=source[2], headers=headers)
    yield DeadLetter(
        id=id_,
        at=_time(told.get("postroom_at", ""), record.timestamp),
        code=told.get("postroom_problem_code", ""),
        field=told.get("postroom_problem_field", ""),
        problem=told.get("postroom_problem", ""),
        attempts=int(said) if (said := told.get("postroom_attempts", "")).isdigit() else 0,
        record=was,
        where=f"{record.topic} partition {record.partition} offset {record.offset}",
        omitted="postroom_value_omitted" in told,
        who=who(was),
    )


def who(record: Record) -> Who:
    """Whose event it is, as far as can be told; never raises."""
    try:
        event = parse_event(record)
    except Rejected:
        return _guess(record)
    return Who(event.id, event.type, event.recipient)


def _guess(record: Record) -> Who:
    headers = {name.lower(): (said or b"").decode(errors="replace") for name, said in record.headers}
    try:
        body: Any = json.loads(record.value or b"")
    except (ValueError, RecursionError):
        body = None
    members: dict[str, Any] = body if isinstance(body, dict) else {}

    def first(*names: str) -> str:
        given = (headers.get(f"ce_{name}") or members.get(name) for name in names)
        return next((each[:256] for each in given if isinstance(each, str)), "")

    return Who(first("message_id", "id"), first("event_type", "type"), first("recipient"))


def _place(text: str) -> tuple[str, int, int] | None:
    topic, _, rest = text.rpartition("/")
    topic, _, partition = topic.rpartition("/")
    return (topic, int(partition), int(rest)) if partition.isdigit() and rest.isdigit() else None


def _time(text: str, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return found if found.tzinfo else found.replace(tzinfo=UTC)
