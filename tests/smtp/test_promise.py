"""The dialogue alone, against every order of events that chance can think of: what must never break.

The relay here may answer anything at any time; the fence may grant, refuse or let a grant lapse; a drain or
a broken line may come between any two bytes.
"""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postroom.adapters.smtp.counters import CloseCause
from postroom.adapters.smtp.transaction import QueuedMessage
from postroom.ports.relay import Lost, NotSent, Reply, Stage
from tests.smtp.smtp_harness import World

POLITE = {"MAIL": 250, "RCPT": 250, "DATA": 354, ".": 250, "RSET": 250, "QUIT": 221}
REFUSALS = st.sampled_from([450, 452, 503, 550, 552, 554])
NONSENSE = st.sampled_from([220, 250, 334, 354, 421])


@dataclass
class Watchful(World):
    """A world whose relay knows which recipient stands and whether it is reading content."""

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
            assert self.recipient is None, "a lone dot would deliver an empty letter"
            self.reading = False
        super().write(data)

    def write_content(self, content: bytes, following: bytes) -> None:
        assert self.reading, "content that the relay did not ask for"
        assert content.startswith(f"To: {self.recipient}\r\n".encode()), "content in another's transaction"
        self.reading = False
        super().write_content(content, following)


class Promise(RuleBasedStateMachine):
    """Every interleaving of replies, verdicts of the fence, time, a drain and a broken line."""

    @initialize(pipelining=st.booleans(), allowance=st.integers(1, 9), count=st.integers(1, 8))
    def connect(self, pipelining: bool, allowance: int, count: int) -> None:
        self.world = Watchful(pipelining, allowance)
        self.tickets = self.world.put(count)
        self.world.transactions.start_next()

    def alive(self) -> bool:
        return self.world.ended is None

    def answering(self) -> bool:
        return self.alive() and bool(self.world.owed)

    def asking(self) -> bool:
        return bool(self.world.asked)

    @precondition(answering)
    @rule()
    def the_relay_goes_along(self) -> None:
        self.world.on_reply(POLITE[self.world.owed[0].partition(" ")[0]])

    @precondition(answering)
    @rule()
    def the_relay_goes_along_again(self) -> None:
        self.the_relay_goes_along()

    @precondition(answering)
    @rule(code=REFUSALS)
    def the_relay_refuses(self, code: int) -> None:
        self.world.on_reply(code)

    @precondition(alive)
    @rule(code=NONSENSE, often=st.integers(0, 9))
    def the_relay_says_what_it_likes(self, code: int, often: int) -> None:
        if often == 0:
            self.world.on_reply(code)

    @precondition(asking)
    @rule(data=st.data(), seconds=st.integers(1, 3))
    def the_fence_grants(self, data: st.DataObject, seconds: int) -> None:
        self.world.grant(self._one_asked(data), self.world.time + seconds)

    @precondition(asking)
    @rule(data=st.data())
    def the_fence_refuses(self, data: st.DataObject) -> None:
        self.world.refuse(self._one_asked(data))

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
    def the_answer_to_the_dot_takes_long(self) -> None:
        if self.world.transactions.stage is Stage.END_OF_DATA:
            self.world.transactions.release_next()

    @precondition(alive)
    @rule(often=st.integers(0, 9))
    def the_line_breaks(self, often: int) -> None:
        if often == 0:
            self.world.transactions.abort(CloseCause.CLOSED, "gone")

    @invariant()
    def an_accepted_or_doubtful_letter_was_sent_and_a_withheld_one_was_not(self) -> None:
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
        """Every letter ends in exactly one place; one that was given back never left."""
        world = self.world
        if world.ended is None:
            world.transactions.abort(CloseCause.CLOSED, "the end")
        returned = [queued for queued in world.returned if queued not in world.results]
        everywhere = [*world.results, *returned, *world.queue]
        assert sorted(map(id, everywhere)) == sorted(map(id, self.tickets))
        sent = {content.removesuffix(b".\r\n") for content in world.contents}
        assert not any(queued.content in sent for queued in returned)

    def _one_asked(self, data: st.DataObject) -> QueuedMessage:
        return data.draw(st.sampled_from(self.world.asked))


TestPromise = Promise.TestCase
TestPromise.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
