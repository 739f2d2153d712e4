"""Dead letters as a person looks at them: what the record was, what was wrong with it, what chooses some.

In: records of a dead-letter topic. Out: DeadLetter values, the newest of each id, oldest first. Pure.

Replaying dead letters: which may go back to their topic, and the way there.

In: chosen dead letters. Out: for each whether it was published, or why not. A replay has the dead letter's
own replay id, so that the ledger lets it open its letter once: to replay twice sends nothing twice.

`replay --to-sandbox`: a dead letter as it would be today, sent to the sandbox and to nobody else.

In: dead letters, and the live templates of their profiles. Out: for each whether the sandbox took it, or why
not. No topic and no ledger is touched, and nothing is connected to but a server that greets as the sandbox
does: a letter stays as it is, and can be replayed in earnest afterwards.
"""

import json
import smtplib
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from postroom.adapters.kafka.producers import republish
from postroom.adapters.kafka.topic_reader import TopicReader, TopicUnreadable
from postroom.adapters.templates import FolderTemplates
from postroom.cli.environment import Environment, ProfileBundle
from postroom.delivery.parse import parse_record
from postroom.delivery.render import render_one
from postroom.http.endpoint import Endpoint, read_endpoint
from postroom.letter.event import LATE_REPLAY_HEADER, REPLAY_HEADER, Record, parse_event
from postroom.letter.problems import Code, Rejected
from postroom.letter.profile import dead_letter_topic
from postroom.local.errors import UserError
from postroom.ports.ledger import REPLAY_RETENTION, Letter, State
from postroom.sandbox.mta import GREETING
from postroom.worker.profile_config import delivery_policy

HEADER_PREFIX = "postroom_"
"""What the names of Postroom's own headers begin with; no event's."""


@dataclass(frozen=True, slots=True)
class EventSummary:
    """What can be told of the event, also where it is none; empty where nothing can be told."""

    event_id: str = ""
    event_type: str = ""
    recipient: str = ""


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """One dead letter: its problem and the record that it was."""

    id: str
    at: datetime
    code: str
    field: str
    problem: str
    attempts: int
    record: Record
    """As it was published: topic, partition and offset are those of the dead letter's source."""
    position: str
    """Where the dead letter itself stands."""
    content_omitted: bool
    """The record was too large: only its source has it."""
    summary: EventSummary

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
class DeadLetterFilter:
    """What chooses dead letters; what is empty chooses all."""

    ids: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    event_type: str = ""
    recipient: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was chosen by."""
        return self == DeadLetterFilter()

    def matches(self, one: StoredDeadLetter) -> bool:
        """Whether this one is meant. An id may be the dead letter's, or the event's."""
        return (
            (not self.ids or one.id in self.ids or one.summary.event_id in self.ids)
            and (not self.codes or one.code in self.codes)
            and (not self.event_type or one.summary.event_type == self.event_type)
            and (not self.recipient or one.summary.recipient.lower() == self.recipient.lower())
            and (self.since is None or one.at >= self.since)
            and (self.until is None or one.at < self.until)
        )


def parse_dead_letters(records: Iterable[Record], topic: str) -> list[StoredDeadLetter]:
    """The dead letters of an event topic; one that was published twice, as may happen, is one."""
    found = {one.id: one for record in records for one in _dead_letter(record, topic)}
    return sorted(found.values(), key=lambda one: one.at)


def _dead_letter(record: Record, topic: str) -> Iterator[StoredDeadLetter]:
    told = {
        name: (said or b"").decode(errors="replace")
        for name, said in record.headers
        if name[:9] == HEADER_PREFIX
    }
    id_ = told.get("postroom_dead_letter_id", "")
    source = _parse_position(told.get("postroom_source", id_))
    if not id_ or source is None:
        return  # somebody else's record: there is nothing to say of it
    headers = tuple(each for each in record.headers if not each[0].startswith(HEADER_PREFIX))
    was = replace(record, topic=topic, partition=source[1], offset=source[2], headers=headers)
    yield StoredDeadLetter(
        id=id_,
        at=_parse_recorded_time(told.get("postroom_at", ""), record.timestamp),
        code=told.get("postroom_problem_code", ""),
        field=told.get("postroom_problem_field", ""),
        problem=told.get("postroom_problem", ""),
        attempts=int(said) if (said := told.get("postroom_attempts", "")).isdigit() else 0,
        record=was,
        position=f"{record.topic} partition {record.partition} offset {record.offset}",
        content_omitted="postroom_value_omitted" in told,
        summary=summarize_event(was),
    )


def summarize_event(record: Record) -> EventSummary:
    """Whose event it is, as far as can be told; never raises."""
    try:
        event = parse_event(record)
    except Rejected:
        return _guess_summary(record)
    return EventSummary(event.id, event.type, event.recipient)


def _guess_summary(record: Record) -> EventSummary:
    headers = {name.lower(): (said or b"").decode(errors="replace") for name, said in record.headers}
    try:
        body: Any = json.loads(record.value or b"")
    except (ValueError, RecursionError):
        body = None
    members: dict[str, Any] = body if isinstance(body, dict) else {}

    def first(*names: str) -> str:
        given = (headers.get(f"ce_{name}") or members.get(name) for name in names)
        return next((each[:256] for each in given if isinstance(each, str)), "")

    return EventSummary(first("message_id", "id"), first("event_type", "type"), first("recipient"))


def _parse_position(text: str) -> tuple[str, int, int] | None:
    topic, _, rest = text.rpartition("/")
    topic, _, partition = topic.rpartition("/")
    return (topic, int(partition), int(rest)) if partition.isdigit() and rest.isdigit() else None


def _parse_recorded_time(text: str, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What became of one dead letter; `why_not` is empty where it was done."""

    dead_letter: StoredDeadLetter
    blocker: str = ""


def find_dead_letters(place: Environment, choice: DeadLetterFilter) -> list[StoredDeadLetter]:
    """The chosen dead letters of all topics, oldest first; raises Trouble."""
    try:
        with TopicReader(place.kafka) as reader:
            found = [
                one for topic in place.topics for one in _read_topic(reader, topic) if choice.matches(one)
            ]
    except TopicUnreadable as reason:
        raise UserError(f"The dead letters cannot be read: {reason}.") from None
    return sorted(found, key=lambda one: one.at)


def _read_topic(reader: TopicReader, topic: str) -> Iterator[StoredDeadLetter]:
    for one in parse_dead_letters(reader.records(dead_letter_topic(topic)), topic):
        yield _with_content(reader, one) if one.content_omitted else one


def _with_content(reader: TopicReader, one: StoredDeadLetter) -> StoredDeadLetter:
    """With its content from its own topic, where that still has it."""
    was = reader.record(one.record.topic, one.record.partition, one.record.offset)
    return (
        one if was is None else replace(one, record=was, content_omitted=False, summary=summarize_event(was))
    )


REPLAY_RISKS: dict[str, str] = {
    Code.TOO_OLD_TO_DEDUPLICATE: "it may have been sent before, and nobody remembers",
    Code.EXPIRED: "its time has passed",
    Code.UNDECIDED: "a copy of it may have arrived",
}
"""Why dead letters with these codes are not replayed, unless somebody insists."""


def replay_blocker(one: StoredDeadLetter, now: datetime, insisted: Collection[str] = ()) -> str:
    """Why a dead letter should not be replayed; empty where it may. `insisted` are codes to be overlooked."""
    if one.content_omitted or one.record.value is None:
        return "its content is on no topic any more"
    if now - one.at > REPLAY_RETENTION:
        return f"it is older than {REPLAY_RETENTION.days} days, for which replays are remembered"
    if one.code == Code.IDEMPOTENCY_MISMATCH:
        return "its id belongs to another letter; publish it under a new id"
    why = REPLAY_RISKS.get(one.code)
    return f"{why}; --insist {one.code} replays it all the same" if why and one.code not in insisted else ""


def publish_replays(place: Environment, wanted: Sequence[StoredDeadLetter]) -> list[ReplayResult]:
    """Put replays on their topics; one Fate each."""
    reasons = republish(place.kafka, [one.as_replay() for one in wanted])
    return [ReplayResult(one, reason) for one, reason in zip(wanted, reasons, strict=True)]


SMTP_SECONDS = 10.0


class _SandboxProfile:
    """A profile's rules and templates, read once."""

    def __init__(self, served: ProfileBundle) -> None:
        self.topic = served.topic
        self.house = delivery_policy(served.profile, State.CAPTURED)
        templates = FolderTemplates(served.bundles)
        templates.refresh()
        self.catalog = templates.current()


def send_to_sandbox(
    place: Environment, wanted: Sequence[StoredDeadLetter], now: datetime
) -> list[ReplayResult]:
    """Send each to the sandbox; raises Trouble when that cannot be reached, or is none."""
    rooms = {room.topic: room for room in map(_SandboxProfile, place.profiles)}
    if not wanted:
        return []
    with _connect(place.sandbox) as server:
        return [
            ReplayResult(one, _render_and_send(server, one, rooms.get(one.record.topic), now))
            for one in wanted
        ]


def _render_and_send(
    server: smtplib.SMTP, one: StoredDeadLetter, room: _SandboxProfile | None, now: datetime
) -> str:
    if room is None:
        return f"the templates of {one.record.topic} are not here: name --profile-file and --bundles"
    if one.content_omitted:
        return "its content is on no topic any more"
    try:
        letter = parse_record(one.as_replay(), room.house.profile)
    except Rejected as rejected:
        return str(rejected.problems[0])
    outcome = render_one(letter, room.catalog, room.house, now)
    if outcome is not None:
        return str(getattr(outcome, "problem", outcome))
    return _transmit(server, letter)


def _transmit(server: smtplib.SMTP, letter: Letter) -> str:
    assert letter.envelope is not None
    steps = (f"MAIL FROM:<{letter.envelope.sender}>", f"RCPT TO:<{letter.envelope.recipient}>", "DATA")
    if letter.envelope.smtputf8:
        steps = (f"{steps[0]} SMTPUTF8", *steps[1:])
        server.command_encoding = "utf-8"
    for step in steps:
        code, said = server.docmd(step)
        if code >= 400:
            server.rset()
            return f"the sandbox answered {code} {said.decode(errors='replace')}"
    server.send(letter.content + b".\r\n")  # the content is dot-stuffed already
    code, said = server.getreply()
    return "" if code == 250 else f"the sandbox answered {code} {said.decode(errors='replace')}"


def _connect(where: str) -> smtplib.SMTP:
    try:
        endpoint = read_endpoint(where)
    except ValueError as error:
        raise UserError(f"--sandbox: {error}") from None
    assert isinstance(endpoint, Endpoint)
    server = smtplib.SMTP(timeout=SMTP_SECONDS, local_hostname=socket.gethostname())
    try:
        _, greeting = server.connect(endpoint.host, endpoint.port)
        if GREETING.encode() not in greeting:
            server.close()
            raise UserError(
                f"{where} is no sandbox of Postroom: nothing was sent.", "Name the sandbox: --sandbox"
            )
        server.ehlo()
    except (OSError, smtplib.SMTPException) as error:
        raise UserError(f"The sandbox at {where} does not answer: {error}.") from None
    return server
