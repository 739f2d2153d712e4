"""Dead letters: parsing, filters, and which may be replayed."""

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


def on_the_topic(original: Record, problem: Problem = PROBLEM, offset: int = 0, attempts: int = 3) -> Record:
    """Return a record as the dead-letter topic has it."""
    dead_letter = ledger.DeadLetter(f"{TOPIC}/0/{original.offset}", original, (problem,), NOON, attempts)
    headers = tuple(
        (name, value if isinstance(value, bytes) else None)
        for name, value in dead_letter_headers(dead_letter)
    )
    return replace(
        original, topic=f"{TOPIC}.dlq", partition=0, offset=offset, headers=(*original.headers, *headers)
    )


def only(stored: Record) -> StoredDeadLetter:
    [found] = parse_dead_letters([stored], TOPIC)
    return found


def test_a_dead_letter_has_its_record_and_its_problem() -> None:
    original = replace(record("a", 7), headers=(("x-trace", b"1"),))
    found = only(on_the_topic(original))
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
    assert found.record == original
    assert found.at == NOON


def test_duplicates_and_foreign_records_are_dropped() -> None:
    twice = [on_the_topic(record("a", 7), offset=offset) for offset in (0, 1)]
    assert len(parse_dead_letters([*twice, record("b", 9)], TOPIC)) == 1


def test_a_replay_is_the_record_with_a_stable_replay_id() -> None:
    first, second = (only(on_the_topic(record("a", 7), offset=offset)).as_replay() for offset in (0, 5))
    assert replay_id(first) == replay_id(second) != ""
    assert (first.topic, first.value, first.key) == (TOPIC, record("a", 7).value, None)


def test_a_replay_that_failed_again_has_a_new_replay_id() -> None:
    first = only(on_the_topic(record("a", 7))).as_replay()
    second = only(on_the_topic(replace(first, offset=9))).as_replay()
    assert replay_id(second) != replay_id(first)
    assert len(second.headers) == 1


@pytest.mark.parametrize(
    ("value", "summary"),
    [
        (b'{"message_id": "m1", "event_type": "k", "recipient": 7}', ("m1", "k", "")),
        (b"\xff", ("", "", "")),
        (b"[" * 100_000, ("", "", "")),
        (b"[]", ("", "", "")),
    ],
)
def test_an_invalid_event_is_summarized_as_far_as_it_parses(
    value: bytes, summary: tuple[str, str, str]
) -> None:
    found = summarize_event(Record(TOPIC, 0, 0, NOON, None, value))
    assert (found.event_id, found.event_type, found.recipient) == summary


@pytest.mark.parametrize(
    ("selection", "matches"),
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
def test_a_filter_matches_dead_letters(selection: DeadLetterFilter, matches: bool) -> None:
    assert selection.matches(only(on_the_topic(record("a", 7)))) is matches


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (Code.RELAY_REFUSED, ""),
        (Code.RENDER_FAILED, ""),
        (Code.IDEMPOTENCY_MISMATCH, "new id"),
        (Code.TOO_OLD_TO_DEDUPLICATE, "--insist too_old_to_deduplicate"),
        (Code.EXPIRED, "--insist expired"),
        (Code.UNDECIDED, "--insist undecided"),
    ],
)
def test_a_replay_that_would_be_rejected_or_duplicated_is_blocked(code: Code, reason: str) -> None:
    dead_letter = only(on_the_topic(record("a", 7), Problem(code, "x", "y")))
    assert (reason in replay_blocker(dead_letter, NOON)) if reason else not replay_blocker(dead_letter, NOON)
    assert bool(replay_blocker(dead_letter, NOON, {code})) is (code is Code.IDEMPOTENCY_MISMATCH)
    assert "older than" in replay_blocker(dead_letter, NOON + timedelta(days=400), {code})


def test_only_expired_letters_are_replayed_late() -> None:
    late = only(on_the_topic(record("a", 7), Problem(Code.EXPIRED, "expires", "y"))).as_replay()
    again = only(on_the_topic(record("a", 7), Problem(Code.RENDER_FAILED, "x", "y"))).as_replay()
    assert (is_late_replay(late), is_late_replay(again)) == (True, False)
    assert not is_late_replay(replace(late, headers=late.headers[1:])), "only together with a replay id"


def test_addresses_are_masked_without_reveal() -> None:
    dead_letter = only(on_the_topic(record("a", 7, message_id="welcome-a@example.net")))
    assert "a@example.net" not in json.dumps(tables.dead_letter_json(dead_letter, reveal=False))
    assert "a@example.net" in json.dumps(tables.dead_letter_json(dead_letter, reveal=True))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", None),
        ("2d", NOON - 2 * DAY),
        ("2026-11-22T12:00:00", NOON - DAY),
        ("2026-11-22T12:00:00Z", NOON - DAY),
    ],
)
def test_times_are_parsed_relative_or_as_rfc_3339(text: str, moment: object) -> None:
    assert parse_time(text, NOON) == moment


def test_an_invalid_time_is_an_error() -> None:
    with pytest.raises(UserError, match="not a time"):
        parse_time("yesterday", NOON)
