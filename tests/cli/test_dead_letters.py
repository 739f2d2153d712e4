"""Dead letters as the desk reads them: what they were, which are meant, which may be replayed."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from postroom.adapters.kafka.producers import dead_letter_headers
from postroom.cli import tables
from postroom.cli.dead_letters import (
    DeadLetterFilter,
    StoredDeadLetter,
    parse_dead_letters,
    replay_blocker,
    summarize_event,
)
from postroom.cli.options import parse_time
from postroom.letter.event import Record, is_late_replay, replay_id
from postroom.letter.problems import Code, Problem
from postroom.local.errors import UserError
from postroom.ports import ledger
from tests.delivery.letters import DAY, KIND, NOON, TOPIC, record

PROBLEM = Problem(Code.VARIABLE_MISSING, "data.name", "is required; a@example.net has none")


def on_the_topic(one: Record, problem: Problem = PROBLEM, offset: int = 0, attempts: int = 3) -> Record:
    """A record as it stands on the dead-letter topic."""
    buried = ledger.DeadLetter(f"{TOPIC}/0/{one.offset}", one, (problem,), NOON, attempts)
    headers = tuple(
        (name, said if isinstance(said, bytes) else None) for name, said in dead_letter_headers(buried)
    )
    return replace(one, topic=f"{TOPIC}.dlq", partition=0, offset=offset, headers=(*one.headers, *headers))


def only(one: Record) -> StoredDeadLetter:
    [found] = parse_dead_letters([one], TOPIC)
    return found


def test_a_dead_letter_says_what_it_was_and_what_was_wrong() -> None:
    was = replace(record("a", 7), headers=(("x-trace", b"1"),))
    found = only(on_the_topic(was))
    assert (found.id, found.code, found.field, found.attempts) == (
        f"{TOPIC}/0/7",
        "variable_missing",
        "data.name",
        3,
    )
    assert (found.summary.event_id, found.summary.event_type, found.summary.recipient) == (
        "a",
        KIND,
        "a@example.net",
    )
    assert found.record == was
    assert found.at == NOON


def test_one_that_was_published_twice_is_one_and_foreign_records_are_none() -> None:
    twice = [on_the_topic(record("a", 7), offset=offset) for offset in (0, 1)]
    assert len(parse_dead_letters([*twice, record("b", 9)], TOPIC)) == 1


def test_a_replay_is_the_record_with_an_id_that_is_the_same_each_time() -> None:
    first, second = (only(on_the_topic(record("a", 7), offset=offset)).as_replay() for offset in (0, 5))
    assert replay_id(first) == replay_id(second) != ""
    assert (first.topic, first.value, first.key) == (TOPIC, record("a", 7).value, None)


def test_a_replay_that_died_again_has_an_id_of_its_own() -> None:
    first = only(on_the_topic(record("a", 7))).as_replay()
    second = only(on_the_topic(replace(first, offset=9))).as_replay()
    assert replay_id(second) != replay_id(first)
    assert len(second.headers) == 1


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b'{"message_id": "m1", "event_type": "k", "recipient": 7}', ("m1", "k", "")),
        (b"\xff", ("", "", "")),
        (b"[" * 100_000, ("", "", "")),
        (b"[]", ("", "", "")),
    ],
)
def test_of_what_is_no_event_as_much_is_told_as_can_be(value: bytes, told: tuple[str, str, str]) -> None:
    found = summarize_event(Record(TOPIC, 0, 0, NOON, None, value))
    assert (found.event_id, found.event_type, found.recipient) == told


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        (DeadLetterFilter(), True),
        (DeadLetterFilter(ids=frozenset({f"{TOPIC}/0/7"})), True),
        (DeadLetterFilter(ids=frozenset({"a"})), True),
        (DeadLetterFilter(ids=frozenset({"b"})), False),
        (DeadLetterFilter(codes=frozenset({"variable_missing"})), True),
        (DeadLetterFilter(codes=frozenset({"poison"})), False),
        (DeadLetterFilter(event_type=KIND, recipient="A@example.net"), True),
        (DeadLetterFilter(event_type="other"), False),
        (DeadLetterFilter(recipient="b@example.net"), False),
        (DeadLetterFilter(since=NOON), True),
        (DeadLetterFilter(since=NOON + DAY), False),
        (DeadLetterFilter(until=NOON), False),
    ],
)
def test_dead_letters_are_chosen(choice: DeadLetterFilter, meant: bool) -> None:
    assert choice.matches(only(on_the_topic(record("a", 7)))) is meant


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (Code.RELAY_REFUSED, ""),
        (Code.RENDER_FAILED, ""),
        (Code.IDEMPOTENCY_MISMATCH, "new id"),
        (Code.TOO_OLD_TO_DEDUPLICATE, "--insist too_old_to_deduplicate"),
        (Code.EXPIRED, "--insist expired"),
        (Code.UNDECIDED, "--insist undecided"),
    ],
)
def test_what_would_be_refused_or_doubled_is_not_replayed(code: Code, says: str) -> None:
    one = only(on_the_topic(record("a", 7), Problem(code, "x", "y")))
    assert (says in replay_blocker(one, NOON)) if says else not replay_blocker(one, NOON)
    assert bool(replay_blocker(one, NOON, {code})) is (code is Code.IDEMPOTENCY_MISMATCH)
    assert "older than" in replay_blocker(one, NOON + timedelta(days=400), {code})


def test_only_what_expired_is_replayed_late() -> None:
    late = only(on_the_topic(record("a", 7), Problem(Code.EXPIRED, "expires", "y"))).as_replay()
    again = only(on_the_topic(record("a", 7), Problem(Code.RENDER_FAILED, "x", "y"))).as_replay()
    assert (is_late_replay(late), is_late_replay(again)) == (True, False)
    assert not is_late_replay(replace(late, headers=late.headers[1:])), "not without a replay's id"


def test_nobody_s_address_is_shown_unless_it_is_asked_for() -> None:
    one = only(on_the_topic(record("a", 7, message_id="welcome-a@example.net")))
    assert "a@example.net" not in json.dumps(tables.dead_letter_json(one, reveal=False))
    assert "a@example.net" in json.dumps(tables.dead_letter_json(one, reveal=True))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", None),
        ("2d", NOON - 2 * DAY),
        ("2026-11-22T12:00:00", NOON - DAY),
        ("2026-11-22T12:00:00Z", NOON - DAY),
    ],
)
def test_times_are_read_as_people_write_them(text: str, moment: object) -> None:
    assert parse_time(text, NOON) == moment


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(UserError, match="no time"):
        parse_time("yesterday", NOON)
