"""The dialogue alone: which bytes follow which replies, and what is said of each letter."""

import math

import pytest

from postroom.adapters.smtp.counters import CloseCause
from postroom.adapters.smtp.transaction import QueuedMessage
from postroom.ports.relay import Envelope, Lost, NotSent, Reply, Stage
from tests.smtp.smtp_harness import World


def test_a_group_is_content_dot_and_the_next_envelope_in_one_write() -> None:
    world = World()
    for queued in world.put(2):
        queued.granted_until = math.inf
    world.transactions.start_next()
    world.on_reply(250, 250, 354)
    assert world.written[1] == (
        b"To: r0@example.net\r\n.\r\nMAIL FROM:<s@example.com>\r\nRCPT TO:<r1@example.net>\r\nDATA\r\n"
    )


def test_without_pipelining_each_command_waits_for_the_answer_before_it() -> None:
    world = World(pipelining=False)
    for queued in world.put(2):
        queued.granted_until = math.inf
    world.transactions.start_next()
    for code, sent in [(250, "MAIL"), (250, "RCPT"), (354, "DATA"), (250, "."), (250, "MAIL")]:
        assert world.owed[0].startswith(sent)
        world.on_reply(code)


def test_the_fence_is_asked_for_the_next_letter_when_its_envelope_leaves() -> None:
    world = World()
    first, second, third = world.put(3)
    world.transactions.start_next()
    assert world.asked == [first]
    world.grant(first)
    world.on_reply(250, 250, 354)
    assert world.asked == [second]
    assert list(world.queue) == [third]


@pytest.mark.parametrize("before", [True, False], ids=["before the 354", "after the 354"])
def test_content_leaves_when_the_354_and_the_grant_have_both_come(before: bool) -> None:
    world = World()
    (queued,) = world.put(1)
    world.transactions.start_next()
    if before:
        world.grant(queued)
    world.on_reply(250, 250, 354)
    if not before:
        assert world.contents == []
        world.grant(queued)
    assert len(world.contents) == 1


def test_a_letter_refused_by_the_fence_after_the_354_closes_without_another_byte() -> None:
    world = World()
    (queued,) = world.put(1)
    world.transactions.start_next()
    world.on_reply(250, 250, 354)
    written = len(world.written)
    world.refuse(queued)
    assert world.ended is CloseCause.NOT_SENT
    assert len(world.written) == written
    assert world.results == {queued: NotSent(fenced=True)}


def test_a_letter_refused_by_the_fence_before_the_354_closes_at_the_354() -> None:
    world = World()
    (queued,) = world.put(1)
    world.transactions.start_next()
    world.refuse(queued)
    world.on_reply(250, 250)
    assert world.ended is None
    world.on_reply(354)
    assert world.ended is CloseCause.NOT_SENT


def test_a_grant_that_lapsed_is_asked_for_again_while_the_relay_waits() -> None:
    world = World()
    (queued,) = world.put(1)
    world.transactions.start_next()
    world.grant(queued, until=10.0)
    world.time = 10.0
    world.on_reply(250, 250, 354)
    assert world.contents == []
    assert world.asked == [queued]
    world.grant(queued, until=20.0)
    assert len(world.contents) == 1


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((450, 503, 503), Reply(Stage.MAIL, 450, "text")),
        ((250, 550, 503), Reply(Stage.RCPT, 550, "text")),
        ((250, 550, 554), Reply(Stage.RCPT, 550, "text")),
        ((250, 250, 451), Reply(Stage.DATA, 451, "text")),
    ],
)
def test_the_first_refusal_counts_and_rset_heads_the_next_group(
    codes: tuple[int, ...], expected: Reply
) -> None:
    world = World()
    first, _ = world.put(2)
    world.transactions.start_next()
    world.on_reply(*codes)
    assert world.results == {first: expected}
    assert world.written[1].startswith(b"RSET\r\nMAIL")
    world.on_reply(250, 250, 250)
    assert world.ended is None


def test_a_lone_dot_is_sent_when_data_is_taken_without_a_recipient_and_its_answer_is_not_acceptance() -> None:
    world = World()
    first, _ = world.put(2)
    world.transactions.start_next()
    world.on_reply(250, 550, 354)
    assert world.written[1] == b".\r\n"
    world.on_reply(250)
    assert world.results[first] == Reply(Stage.RCPT, 550, "text")
    assert world.contents == []
    assert world.written[2].startswith(b"RSET\r\n")


def test_421_to_the_dot_answers_it_and_gives_back_the_letter_whose_envelope_travelled_with_it() -> None:
    world = World()
    first, second = world.put(2)
    first.granted_until = second.granted_until = math.inf
    world.transactions.start_next()
    world.on_reply(250, 250, 354, 421)
    assert world.results == {first: Reply(Stage.END_OF_DATA, 421, "text")}
    assert world.returned == [second]
    assert second.granted_until == math.inf


def test_the_allowance_ends_with_quit() -> None:
    world = World(allowance=2)
    for queued in world.put(3):
        queued.granted_until = math.inf
    world.transactions.start_next()
    world.on_reply(250, 250, 354, 250, 250, 250, 354, 250)
    assert world.written[-1] == b"QUIT\r\n"
    assert len(world.queue) == 1
    world.on_reply(221)
    assert world.ended is CloseCause.QUIT


def sending() -> tuple[World, QueuedMessage, QueuedMessage]:
    """The content of a letter is with the relay, and with it the envelope of the next."""
    world = World()
    first, second = world.put(2)
    first.granted_until = second.granted_until = math.inf
    world.transactions.start_next()
    world.on_reply(250, 250, 354)
    return world, first, second


@pytest.mark.parametrize("flushed", [True, False])
def test_in_doubt_is_only_a_letter_whose_last_byte_went_to_the_socket(flushed: bool) -> None:
    world, first, second = sending()
    world.flushed = flushed
    world.transactions.abort(CloseCause.CLOSED, "gone")
    assert world.results == {first: Lost(Stage.END_OF_DATA if flushed else Stage.DATA, flushed, "gone")}
    assert world.returned == [second]


def test_stopping_leaves_what_has_not_reached_its_content_and_waits_for_the_rest() -> None:
    world, first, second = sending()
    world.transactions.stop()
    assert world.returned == [second]
    world.on_reply(250)
    assert world.results == {first: Reply(Stage.END_OF_DATA, 250, "text")}
    assert world.ended is CloseCause.DRAINED
    assert len(world.contents) == 1


@pytest.mark.parametrize("stopping", [False, True])
def test_a_letter_that_went_another_way_leaves_nothing_with_this_relay(stopping: bool) -> None:
    """Its envelope is there, and the relay will ask for its content: not even QUIT may follow."""
    world, first, second = sending()
    world.transactions.release_next()
    assert world.returned == [second]
    if stopping:
        world.transactions.stop()
    written = len(world.written)
    world.on_reply(250)
    assert world.results == {first: Reply(Stage.END_OF_DATA, 250, "text")}
    assert (world.ended, len(world.written)) == (CloseCause.RESEQUENCED, written)


def test_a_relay_that_takes_data_after_refusing_the_sender_is_left_without_a_byte() -> None:
    world = World()
    (queued,) = world.put(1)
    queued.granted_until = math.inf
    world.transactions.start_next()
    world.on_reply(450, 250, 354)
    assert world.ended is CloseCause.PROTOCOL_ERROR
    assert len(world.written) == 1
    assert world.results == {queued: Reply(Stage.MAIL, 450, "text")}


def test_acceptance_before_the_last_byte_has_left_is_no_acceptance() -> None:
    world = World()
    (queued,) = world.put(1)
    queued.granted_until = math.inf
    world.transactions.start_next()
    world.on_reply(250, 250, 354)
    world.flushed = False
    world.on_reply(250)
    assert world.ended is CloseCause.PROTOCOL_ERROR
    result = world.results[queued]
    assert isinstance(result, Lost)
    assert not result.end_of_data_sent


@pytest.mark.parametrize("code", [221, 250, 354, 550])
def test_a_reply_to_nothing_ends_the_dialogue(code: int) -> None:
    world = World()
    world.transactions.start_next()
    assert world.idle == 1
    world.on_reply(code)
    assert world.ended is CloseCause.UNSOLICITED


def test_a_resting_connection_may_be_closed_by_the_relay() -> None:
    world = World()
    world.transactions.start_next()
    world.on_reply(421)
    assert world.ended is CloseCause.CLOSING


def test_what_a_letter_needs_and_the_relay_lacks_is_said_without_asking_fence_or_relay() -> None:
    world = World()
    (queued,) = world.put(1)
    queued.message.envelope = Envelope("s@example.com", "ü@example.net", smtputf8=True)  # type: ignore[misc]
    world.transactions.start_next()
    result = world.results[queued]
    assert isinstance(result, Reply)
    assert (result.stage, result.code) == (Stage.MAIL, 553)
    assert world.written == []
    assert world.asked == []


def test_rset_refused_puts_the_letter_behind_it_at_fault_for_nothing() -> None:
    world = World()
    first, second = world.put(2)
    world.transactions.start_next()
    world.on_reply(250, 550, 503, 421)
    assert world.results == {first: Reply(Stage.RCPT, 550, "text")}
    assert world.returned == [second]


def test_421_while_a_letter_waits_for_the_fence_answers_that_letter() -> None:
    world = World()
    (queued,) = world.put(1)
    world.transactions.start_next()
    world.on_reply(250, 250, 354, 421)
    assert world.results == {queued: Reply(Stage.DATA, 421, "text")}
    assert world.ended is CloseCause.CLOSING
    world.grant(queued)
    assert world.contents == []
