"""Dead letters: parse the records of a dead-letter topic, filter them, replay them.

Input: an `Environment` and a `DeadLetterFilter`. Output: `StoredDeadLetter`s, the newest of each id, oldest
first; for each replay a `ReplayResult` with the reason when it was blocked or failed. A replay carries an id
made of the dead letter and its content, so that the ledger reopens the letter once: replaying twice does not
send twice.

`send_to_sandbox` (`replay --to-sandbox`) renders a dead letter with today's template and sends it to the
sandbox only. It touches no topic and no ledger, and refuses a server that does not greet as the sandbox does;
the dead letter can be replayed afterwards. Failure: `UserError` when brokers or sandbox do not answer.
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
"""The prefix of Postroom's own headers; an event has no such header."""


@dataclass(frozen=True, slots=True)
class EventSummary:
    """Id, type and recipient of an event, also of an invalid one; unknown fields are empty."""

    event_id: str = ""
    event_type: str = ""
    recipient: str = ""


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as its topic has it: the problem and the original record."""

    id: str
    at: datetime
    code: str
    field: str
    problem: str
    attempts: int
    record: Record
    """The original record; topic, partition and offset are its own."""
    position: str
    """Topic, partition and offset of the dead letter itself."""
    content_omitted: bool
    """The record was too large to copy; only the source topic has its content."""
    summary: EventSummary

    @property
    def replay_id(self) -> str:
        """The id of every replay of this dead letter; equal ids take effect once."""
        return f"{self.id}#{blake2b(self.record.value or b'', digest_size=4).hexdigest()}"

    def as_replay(self) -> Record:
        """Return the record to publish; an expired record is marked late, so as not to expire again."""
        own = (
            (REPLAY_HEADER, self.replay_id.encode()),
            *([(LATE_REPLAY_HEADER, b"yes")] if self.code == Code.EXPIRED else []),
        )
        return replace(self.record, headers=(*self.record.headers, *own))


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Conditions for dead letters; an empty condition matches all."""

    ids: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    event_type: str = ""
    recipient: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether all conditions are empty."""
        return self == DeadLetterFilter()

    def matches(self, dead_letter: StoredDeadLetter) -> bool:
        """Whether a dead letter matches; an id may be the dead letter's or the event's."""
        return (
            (not self.ids or dead_letter.id in self.ids or dead_letter.summary.event_id in self.ids)
            and (not self.codes or dead_letter.code in self.codes)
            and (not self.event_type or dead_letter.summary.event_type == self.event_type)
            and (not self.recipient or dead_letter.summary.recipient.lower() == self.recipient.lower())
            and (self.since is None or dead_letter.at >= self.since)
            and (self.until is None or dead_letter.at < self.until)
        )


def parse_dead_letters(records: Iterable[Record], topic: str) -> list[StoredDeadLetter]:
    """Parse the dead letters of an event topic, oldest first; of equal ids only the last is kept."""
    found = {dead_letter.id: dead_letter for record in records for dead_letter in _dead_letter(record, topic)}
    return sorted(found.values(), key=lambda dead_letter: dead_letter.at)


def _dead_letter(record: Record, topic: str) -> Iterator[StoredDeadLetter]:
    fields = {
        name: (value or b"").decode(errors="replace")
        for name, value in record.headers
        if name.startswith(HEADER_PREFIX)
    }
    id_ = fields.get("postroom_dead_letter_id", "")
    position = _parse_position(fields.get("postroom_source", id_))
    if not id_ or position is None:
        return  # not a dead letter of Postroom
    headers = tuple(header for header in record.headers if not header[0].startswith(HEADER_PREFIX))
    source = replace(record, topic=topic, partition=position[1], offset=position[2], headers=headers)
    attempts = fields.get("postroom_attempts", "")
    yield StoredDeadLetter(
        id=id_,
        at=_parse_recorded_time(fields.get("postroom_at", ""), record.timestamp),
        code=fields.get("postroom_problem_code", ""),
        field=fields.get("postroom_problem_field", ""),
        problem=fields.get("postroom_problem", ""),
        attempts=int(attempts) if attempts.isdigit() else 0,
        record=source,
        position=f"{record.topic} partition {record.partition} offset {record.offset}",
        content_omitted="postroom_value_omitted" in fields,
        summary=summarize_event(source),
    )


def summarize_event(record: Record) -> EventSummary:
    """Summarize an event, as far as it can be parsed; never raises."""
    try:
        event = parse_event(record)
    except Rejected:
        return _guess_summary(record)
    return EventSummary(event.id, event.type, event.recipient)


def _guess_summary(record: Record) -> EventSummary:
    headers = {name.lower(): (value or b"").decode(errors="replace") for name, value in record.headers}
    try:
        body: Any = json.loads(record.value or b"")
    except (ValueError, RecursionError):
        body = None
    members: dict[str, Any] = body if isinstance(body, dict) else {}

    def first(*names: str) -> str:
        given = (headers.get(f"ce_{name}") or members.get(name) for name in names)
        return next((value[:256] for value in given if isinstance(value, str)), "")

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
    """The result for a dead letter; `blocker` is the reason when it was not replayed, otherwise empty."""

    dead_letter: StoredDeadLetter
    blocker: str = ""


def find_dead_letters(environment: Environment, selection: DeadLetterFilter) -> list[StoredDeadLetter]:
    """Return the matching dead letters of all topics, oldest first; raises UserError."""
    try:
        with TopicReader(environment.kafka) as reader:
            found = [
                dead_letter
                for topic in environment.topics
                for dead_letter in _read_topic(reader, topic)
                if selection.matches(dead_letter)
            ]
    except TopicUnreadable as error:
        raise UserError(f"The dead letters cannot be read: {error}.") from None
    return sorted(found, key=lambda dead_letter: dead_letter.at)


def _read_topic(reader: TopicReader, topic: str) -> Iterator[StoredDeadLetter]:
    for dead_letter in parse_dead_letters(reader.records(dead_letter_topic(topic)), topic):
        yield _with_content(reader, dead_letter) if dead_letter.content_omitted else dead_letter


def _with_content(reader: TopicReader, dead_letter: StoredDeadLetter) -> StoredDeadLetter:
    """Return a dead letter with its content from the source topic, if that still has it."""
    source = reader.record(dead_letter.record.topic, dead_letter.record.partition, dead_letter.record.offset)
    if source is None:
        return dead_letter
    return replace(dead_letter, record=source, content_omitted=False, summary=summarize_event(source))


REPLAY_RISKS: dict[str, str] = {
    Code.TOO_OLD_TO_DEDUPLICATE: "it may have been sent before, and the ledger no longer has its record",
    Code.EXPIRED: "it has expired",
    Code.UNDECIDED: "a copy of it may have arrived",
}
"""Why dead letters with these codes are replayed only with `--insist`."""


def replay_blocker(dead_letter: StoredDeadLetter, now: datetime, overridden: Collection[str] = ()) -> str:
    """Return why a dead letter is not replayed, or an empty text; `overridden` codes do not block it."""
    if dead_letter.content_omitted or dead_letter.record.value is None:
        return "its content is no longer on any topic"
    if now - dead_letter.at > REPLAY_RETENTION:
        return f"it is older than the {REPLAY_RETENTION.days} days for which the ledger keeps replays"
    if dead_letter.code == Code.IDEMPOTENCY_MISMATCH:
        return "its id belongs to another letter; publish it under a new id"
    why = REPLAY_RISKS.get(dead_letter.code)
    return (
        f"{why}; use --insist {dead_letter.code} to replay it"
        if why and dead_letter.code not in overridden
        else ""
    )


def publish_replays(environment: Environment, wanted: Sequence[StoredDeadLetter]) -> list[ReplayResult]:
    """Publish dead letters on their event topics; returns a result for each."""
    reasons = republish(environment.kafka, [dead_letter.as_replay() for dead_letter in wanted])
    return [ReplayResult(dead_letter, reason) for dead_letter, reason in zip(wanted, reasons, strict=True)]


SMTP_SECONDS = 10.0


class _SandboxProfile:
    """The delivery policy and the templates of a profile."""

    def __init__(self, served: ProfileBundle) -> None:
        self.topic = served.topic
        self.policy = delivery_policy(served.profile, State.CAPTURED)
        templates = FolderTemplates(served.bundles)
        templates.refresh()
        self.catalog = templates.current()


def send_to_sandbox(
    environment: Environment, wanted: Sequence[StoredDeadLetter], now: datetime
) -> list[ReplayResult]:
    """Render dead letters and send them to the sandbox; raises UserError when it is not reachable."""
    profiles = {profile.topic: profile for profile in map(_SandboxProfile, environment.profiles)}
    if not wanted:
        return []
    with _connect(environment.sandbox) as server:
        return [
            ReplayResult(
                dead_letter,
                _render_and_send(server, dead_letter, profiles.get(dead_letter.record.topic), now),
            )
            for dead_letter in wanted
        ]


def _render_and_send(
    server: smtplib.SMTP, dead_letter: StoredDeadLetter, profile: _SandboxProfile | None, now: datetime
) -> str:
    if profile is None:
        return f"no templates for {dead_letter.record.topic}: set --profile-file and --bundles"
    if dead_letter.content_omitted:
        return "its content is no longer on any topic"
    try:
        letter = parse_record(dead_letter.as_replay(), profile.policy.profile)
    except Rejected as rejected:
        return str(rejected.problems[0])
    outcome = render_one(letter, profile.catalog, profile.policy, now)
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
        code, reply = server.docmd(step)
        if code >= 400:
            server.rset()
            return f"the sandbox answered {code} {reply.decode(errors='replace')}"
    server.send(letter.content + b".\r\n")  # the content is already dot-stuffed
    code, reply = server.getreply()
    return "" if code == 250 else f"the sandbox answered {code} {reply.decode(errors='replace')}"


def _connect(address: str) -> smtplib.SMTP:
    try:
        endpoint = read_endpoint(address)
    except ValueError as error:
        raise UserError(f"--sandbox: {error}") from None
    assert isinstance(endpoint, Endpoint)
    server = smtplib.SMTP(timeout=SMTP_SECONDS, local_hostname=socket.gethostname())
    try:
        _, greeting = server.connect(endpoint.host, endpoint.port)
        if GREETING.encode() not in greeting:
            server.close()
            raise UserError(
                f"{address} is not a Postroom sandbox; nothing was sent.",
                "Name the sandbox: --sandbox HOST:PORT",
            )
        server.ehlo()
    except (OSError, smtplib.SMTPException) as error:
        raise UserError(f"The sandbox at {address} does not answer: {error}.") from None
    return server
