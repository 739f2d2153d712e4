"""The transactions of a connection: which bytes follow which replies, and the result of each letter."""

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


def test_an_expired_grant_is_requested_again_while_the_relay_waits() -> None:
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


def test_421_to_the_end_of_data_is_its_result_and_the_next_letter_is_requeued() -> None:
    world = World()
    first, second = world.put(2)
    first.granted_until = second.granted_until = math.inf
    world.transactions.start_next()
    world.on_reply(250, 250, 354, 421)
    assert world.results == {first: Reply(Stage.END_OF_DATA, 421, "text")}
    assert world.returned == [second]
    assert second.granted_until == math.inf


def test_quit_follows_the_last_message_of_a_connection() -> None:
    world = World(max_messages=2)
    for queued in world.put(3):
        queued.granted_until = math.inf
    world.transactions.start_next()
    world.on_reply(250, 250, 354, 250, 250, 250, 354, 250)
    assert world.written[-1] == b"QUIT\r\n"
    assert len(world.queue) == 1
    world.on_reply(221)
    assert world.ended is CloseCause.QUIT


def sending() -> tuple[World, QueuedMessage, QueuedMessage]:
    """A world in which the content of a letter and the envelope of the next letter were sent."""
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


def test_stop_requeues_a_letter_without_content_and_waits_for_the_reply_to_the_other() -> None:
    world, first, second = sending()
    world.transactions.stop()
    assert world.returned == [second]
    world.on_reply(250)
    assert world.results == {first: Reply(Stage.END_OF_DATA, 250, "text")}
    assert world.ended is CloseCause.DRAINED
    assert len(world.contents) == 1


@pytest.mark.parametrize("stopping", [False, True])
def test_a_connection_is_closed_after_its_next_letter_was_requeued(stopping: bool) -> None:
    """The relay has its envelope and will reply 354, so that QUIT would be content."""
    world, first, second = sending()
    world.transactions.release_next()
    assert world.returned == [second]
    if stopping:
        world.transactions.stop()
    written = len(world.written)
    world.on_reply(250)
    assert world.results == {first: Reply(Stage.END_OF_DATA, 250, "text")}
    assert (world.ended, len(world.written)) == (CloseCause.RESEQUENCED, written)


def test_a_connection_is_closed_at_a_354_after_a_rejected_sender() -> None:
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


def test_the_relay_may_close_an_idle_connection() -> None:
    world = World()
    world.transactions.start_next()
    world.on_reply(421)
    assert world.ended is CloseCause.CLOSING


def test_a_missing_extension_is_reported_without_a_fence_call_or_a_command() -> None:
    world = World()
    (queued,) = world.put(1)
    queued.message.envelope = Envelope("s@example.com", "ü@example.net", smtputf8=True)  # type: ignore[misc]
    world.transactions.start_next()
    result = world.results[queued]
    assert isinstance(result, Reply)
    assert (result.stage, result.code) == (Stage.MAIL, 553)
    assert world.written == []
    assert world.asked == []


def test_a_rejected_rset_requeues_the_letter_behind_it() -> None:
    world = World()
    first, second = world.put(2)
    world.transactions.start_next()
    world.on_reply(250, 550, 503, 421)
    assert world.results == {first: Reply(Stage.RCPT, 550, "text")}
    assert world.returned == [second]


def test_421_while_a_letter_waits_for_the_fence_is_its_result() -> None:
    world = World()
    (queued,) = world.put(1)
    world.transactions.start_next()
    world.on_reply(250, 250, 354, 421)
    assert world.results == {queued: Reply(Stage.DATA, 421, "text")}
    assert world.ended is CloseCause.CLOSING
    world.grant(queued)
    assert world.contents == []
