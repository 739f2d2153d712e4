"""The transactions of a connection under random orders of events: the invariants.

The relay may send any reply at any time; the fence may grant, refuse or let a grant expire; a drain or a
connection failure may occur between any two events.
"""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postroom.adapters.smtp.counters import CloseCause
from postroom.adapters.smtp.transaction import QueuedMessage
from postroom.ports.relay import Lost, NotSent, Reply, Stage
from tests.smtp.smtp_harness import World

ACCEPTING = {"MAIL": 250, "RCPT": 250, "DATA": 354, ".": 250, "RSET": 250, "QUIT": 221}
REFUSALS = st.sampled_from([450, 452, 503, 550, 552, 554])
UNEXPECTED = st.sampled_from([220, 250, 334, 354, 421])


@dataclass
class CheckedWorld(World):
    """A world that tracks the accepted recipient and whether the relay reads content."""

    recipient: str | None = None
    reading: bool = False

    def answer_command(self, command: str, code: int) -> None:
        verb = command[:4]
        if verb == "DATA" and code == 354:
            self.reading = True
        elif verb == "RCPT" and code < 300:
            self.recipient = command.partition("<")[2].rstrip(">")
        elif verb in ("MAIL", "RSET", ".") and code < 300:
            self.recipient = None

    def write(self, data: bytes) -> None:
        if self.reading:
            assert data == b".\r\n", f"{data!r} where the relay reads content"
            assert self.recipient is None, "a `.` alone would deliver an empty letter"
            self.reading = False
        super().write(data)

    def write_content(self, content: bytes, following: bytes) -> None:
        assert self.reading, "content without a 354"
        assert content.startswith(f"To: {self.recipient}\r\n".encode()), (
            "content in the transaction of another letter"
        )
        self.reading = False
        super().write_content(content, following)


class Promise(RuleBasedStateMachine):
    """Random interleavings of replies, fence verdicts, time, a drain and a connection failure."""

    @initialize(pipelining=st.booleans(), max_messages=st.integers(1, 9), count=st.integers(1, 8))
    def connect(self, pipelining: bool, max_messages: int, count: int) -> None:
        self.world = CheckedWorld(pipelining, max_messages)
        self.queued_messages = self.world.put(count)
        self.world.transactions.start_next()

    def alive(self) -> bool:
        return self.world.ended is None

    def answering(self) -> bool:
        return self.alive() and bool(self.world.owed)

    def asking(self) -> bool:
        return bool(self.world.asked)

    @precondition(answering)
    @rule()
    def the_relay_accepts(self) -> None:
        self.world.on_reply(ACCEPTING[self.world.owed[0].partition(" ")[0]])

    @precondition(answering)
    @rule()
    def the_relay_accepts_again(self) -> None:
        self.the_relay_accepts()

    @precondition(answering)
    @rule(code=REFUSALS)
    def the_relay_refuses(self, code: int) -> None:
        self.world.on_reply(code)

    @precondition(alive)
    @rule(code=UNEXPECTED, often=st.integers(0, 9))
    def the_relay_sends_an_unexpected_reply(self, code: int, often: int) -> None:
        if often == 0:
            self.world.on_reply(code)

    @precondition(asking)
    @rule(data=st.data(), seconds=st.integers(1, 3))
    def the_fence_grants(self, data: st.DataObject, seconds: int) -> None:
        self.world.grant(self._draw_requested(data), self.world.time + seconds)

    @precondition(asking)
    @rule(data=st.data())
    def the_fence_refuses(self, data: st.DataObject) -> None:
        self.world.refuse(self._draw_requested(data))

    @rule()
    def time_passes(self) -> None:
        self.world.time += 1

    @precondition(alive)
    @rule(flushed=st.booleans())
    def the_socket_takes_bytes_or_not(self, flushed: bool) -> None:
        self.world.flushed = flushed

    @precondition(alive)
    @rule(often=st.integers(0, 9))
    def the_pool_drains(self, often: int) -> None:
        if often == 0:
            self.world.transactions.stop()

    @precondition(alive)
    @rule()
    def the_reply_to_the_end_of_data_is_slow(self) -> None:
        if self.world.transactions.stage is Stage.END_OF_DATA:
            self.world.transactions.release_next()

    @precondition(alive)
    @rule(often=st.integers(0, 9))
    def the_connection_fails(self, often: int) -> None:
        if often == 0:
            self.world.transactions.abort(CloseCause.CLOSED, "gone")

    @invariant()
    def an_accepted_or_doubtful_letter_was_sent_and_an_unsent_letter_was_not(self) -> None:
        sent = {content.removesuffix(b".\r\n") for content in self.world.contents}
        assert len(sent) == len(self.world.contents)
        for queued, result in self.world.results.items():
            if isinstance(result, Reply) and result.code < 300:
                assert result.stage is Stage.END_OF_DATA
                assert queued.content in sent
            elif isinstance(result, Lost) and result.end_of_data_sent:
                assert queued.content in sent
            elif isinstance(result, NotSent):
                assert queued.content not in sent

    def teardown(self) -> None:
        """Every letter ends in exactly one place; a requeued letter never left."""
        world = self.world
        if world.ended is None:
            world.transactions.abort(CloseCause.CLOSED, "the end")
        returned = [queued for queued in world.returned if queued not in world.results]
        everywhere = [*world.results, *returned, *world.queue]
        assert sorted(map(id, everywhere)) == sorted(map(id, self.queued_messages))
        sent = {content.removesuffix(b".\r\n") for content in world.contents}
        assert not any(queued.content in sent for queued in returned)

    def _draw_requested(self, data: st.DataObject) -> QueuedMessage:
        return data.draw(st.sampled_from(self.world.asked))


TestPromise = Promise.TestCase
TestPromise.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
