"""Over real sockets: the results for each fault of a relay at each stage."""

import asyncio
from collections.abc import Sequence

import pytest

from postroom.adapters.smtp.counters import CloseCause
from postroom.ports.relay import Lost, Reply, Result, Stage
from tests.delivery.scripted_relay import DROP, FULL, OK, RESET, Raw, ScriptedRelay, Stall, served
from tests.smtp.outbound_messages import ACCEPTED, Letter, Register, letters, pool, until

LOCKSTEP = tuple(word for word in FULL if word != "PIPELINING")
MODES = pytest.mark.parametrize("extensions", [FULL, LOCKSTEP], ids=["pipelined", "lockstep"])
VERBS = {"MAIL": Stage.MAIL, "RCPT": Stage.RCPT, "DATA": Stage.DATA, "DOT": Stage.END_OF_DATA}


async def send(relay: ScriptedRelay, count: int = 3) -> list[Result]:
    """Send letters over one connection at a time; return their results in the order of the letters."""
    register = Register()
    async with served(relay), pool(relay.port) as sender:
        sender.deliver(letters(count), register.note)
        await register.of(count)
    for seen in relay.seen:
        assert seen.content == b"" or seen.content == Letter(seen.recipients[0]).content
    return [register.results[letter.recipient] for letter in letters(count)]


@MODES
def test_letters_arrive_each_in_its_own_transaction(extensions: Sequence[str]) -> None:
    relay = ScriptedRelay(extensions=extensions)
    assert asyncio.run(send(relay, 20)) == [ACCEPTED] * 20
    assert len(relay.accepted) == 20
    assert relay.connections == 1


@MODES
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("code", [450, 451, 452, 454, 550, 552, 554])
def test_a_rejection_is_reported_with_its_stage_and_does_not_affect_other_letters(
    verb: str, code: int, extensions: Sequence[str]
) -> None:
    relay = ScriptedRelay({verb: [OK, f"{code} 1.2.3 no"]}, extensions)
    results = asyncio.run(send(relay))
    assert results == [ACCEPTED, Reply(VERBS[verb], code, "1.2.3 no"), ACCEPTED]
    assert len(relay.accepted) == 2
    assert relay.connections == 1


@MODES
@pytest.mark.parametrize("verb", VERBS)
def test_421_answers_the_current_letter_and_ends_the_connection(verb: str, extensions: Sequence[str]) -> None:
    relay = ScriptedRelay({verb: ["421 4.3.2 closing"]}, extensions)
    results = asyncio.run(send(relay))
    assert results == [Reply(VERBS[verb], 421, "4.3.2 closing"), ACCEPTED, ACCEPTED]
    assert relay.connections == 2


@MODES
@pytest.mark.parametrize("fault", [DROP, RESET], ids=["drop", "reset"])
@pytest.mark.parametrize("verb", VERBS)
def test_only_a_connection_lost_after_the_dot_leaves_a_letter_in_doubt(
    verb: str, fault: Raw | str, extensions: Sequence[str]
) -> None:
    relay = ScriptedRelay({verb: [fault]}, extensions)
    lost, *others = asyncio.run(send(relay))
    assert isinstance(lost, Lost)
    assert lost.stage is VERBS[verb]
    assert lost.end_of_data_sent is (verb == "DOT")
    assert others == [ACCEPTED, ACCEPTED]


@MODES
@pytest.mark.parametrize(
    ("verb", "stage", "sent"),
    [
        ("MAIL", Stage.MAIL, False),
        ("RCPT", Stage.RCPT, False),
        ("DATA", Stage.DATA, False),
        ("DOT", Stage.END_OF_DATA, True),
    ],
)
def test_garbage_in_place_of_a_reply_ends_the_connection(
    verb: str, stage: Stage, sent: bool, extensions: Sequence[str]
) -> None:
    relay = ScriptedRelay({verb: [Raw(b"\x16\x03\x01 what\r\n")]}, extensions)
    lost, *others = asyncio.run(send(relay))
    assert isinstance(lost, Lost)
    assert (lost.stage, lost.end_of_data_sent) == (stage, sent)
    assert "invalid SMTP reply" in lost.reason
    assert others == [ACCEPTED, ACCEPTED]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
def test_an_incomplete_reply_is_no_reply(verb: str) -> None:
    relay = ScriptedRelay({verb: [Raw(b"250 2.0.0 qu", then_drop=True)]}, LOCKSTEP)
    lost, *others = asyncio.run(send(relay))
    assert isinstance(lost, Lost)
    assert lost.end_of_data_sent is (verb == "DOT")
    assert others == [ACCEPTED, ACCEPTED]


def test_a_relay_that_takes_data_after_refusing_the_recipient_gets_a_lone_dot() -> None:
    relay = ScriptedRelay({"RCPT": ["550 5.1.1 unknown"], "DATA": ["354 anyway"]})
    results = asyncio.run(send(relay))
    assert results == [Reply(Stage.RCPT, 550, "5.1.1 unknown"), ACCEPTED, ACCEPTED]
    assert relay.seen[0].content == b""
    assert "RSET" in relay.commands


def test_a_relay_that_takes_data_after_refusing_the_sender_is_left() -> None:
    relay = ScriptedRelay({"MAIL": ["451 4.3.0 later"], "DATA": ["354 anyway"]})
    results = asyncio.run(send(relay))
    assert results == [Reply(Stage.MAIL, 451, "4.3.0 later"), ACCEPTED, ACCEPTED]
    assert relay.connections == 2
    assert len(relay.seen) == 2


@pytest.mark.parametrize("reply", ["250 ok", "220 hello", "334 more"])
def test_data_answered_with_anything_but_354_or_a_refusal_is_not_taken_for_acceptance(reply: str) -> None:
    results = asyncio.run(send(ScriptedRelay({"DATA": [reply]})))
    assert isinstance(results[0], Lost)
    assert not results[0].end_of_data_sent
    assert results[1:] == [ACCEPTED, ACCEPTED]


def test_an_unsolicited_reply_ends_the_connection_and_fails_no_letter() -> None:
    relay = ScriptedRelay({"DOT": [Raw(b"250 2.0.0 queued\r\n250 2.0.0 and again\r\n")]}, LOCKSTEP)

    async def run() -> None:
        register = Register()
        async with served(relay), pool(relay.port) as sender:
            sender.deliver(letters(1), register.note)
            await register.of(1)
            await until(lambda: sender.counters.drops[CloseCause.UNSOLICITED] == 1)
            sender.deliver([Letter("next@example.net")], register.note)
            assert await register.of(2) == [ACCEPTED, ACCEPTED]

    asyncio.run(run())
    assert relay.connections == 2


def test_a_reused_connection_that_the_relay_closed_fails_no_letter() -> None:
    relay = ScriptedRelay({"MAIL": [OK, DROP]})
    assert asyncio.run(send(relay, 2)) == [ACCEPTED, ACCEPTED]
    assert relay.connections == 2


def test_a_letter_is_requeued_for_a_closed_connection_only_once() -> None:
    relay = ScriptedRelay({"MAIL": [OK, DROP, OK, DROP]})

    async def run() -> list[Result]:
        register = Register()
        async with served(relay), pool(relay.port, messages_per_connection=50) as sender:
            sender.deliver(letters(4), register.note)
            return await register.of(4)

    results = asyncio.run(run())
    assert sum(result == ACCEPTED for result in results) + sum(isinstance(r, Lost) for r in results) == 4


def test_content_that_the_socket_has_not_accepted_is_not_in_doubt() -> None:
    """The relay stops reading in the middle of a large letter, then closes the connection."""

    async def run() -> Result:
        relay = ScriptedRelay(stall=Stall(gone := asyncio.Event()))
        register = Register()
        async with served(relay), pool(relay.port) as sender:
            sender.deliver([Letter("big@example.net", 20_000_000)], register.note)
            await until(lambda: sender.counters.letters == 1)
            gone.set()
            (result,) = await register.of(1)
        return result

    result = asyncio.run(run())
    assert isinstance(result, Lost)
    assert (result.stage, result.end_of_data_sent) == (Stage.DATA, False)


def test_a_rejection_in_the_middle_of_the_content_is_the_result() -> None:
    async def run() -> Result:
        relay = ScriptedRelay(stall=Stall(asyncio.Event(), b"552 5.3.4 too big\r\n"))
        register = Register()
        async with served(relay), pool(relay.port) as sender:
            sender.deliver([Letter("big@example.net", 20_000_000)], register.note)
            (result,) = await register.of(1)
        return result

    assert asyncio.run(run()) == Reply(Stage.END_OF_DATA, 552, "5.3.4 too big")


def test_a_250_in_the_middle_of_the_content_is_no_acceptance() -> None:
    async def run() -> Result:
        relay = ScriptedRelay(stall=Stall(asyncio.Event(), b"250 2.0.0 fine\r\n"))
        register = Register()
        async with served(relay), pool(relay.port) as sender:
            sender.deliver([Letter("big@example.net", 20_000_000)], register.note)
            (result,) = await register.of(1)
        return result

    result = asyncio.run(run())
    assert isinstance(result, Lost)
    assert not result.end_of_data_sent
