"""The watermark against the plainest model of it: the records received, and which of them are done."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from postroom.delivery.consumer import Watermark


class Model(RuleBasedStateMachine):
    """Offsets come in order with holes and are finished in any order, some of them more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = Watermark()
        self.received: list[int] = []
        self.done: set[int] = set()
        self.committed: int | None = None

    @rule(hole=st.integers(0, 5))
    def receive(self, hole: int) -> None:
        offset = (self.received[-1] if self.received else 41) + 1 + hole
        self.received.append(offset)
        self.mark.receive(offset)

    @precondition(lambda self: self.received)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.received))
        self.done.add(offset)
        self.mark.finish(offset)

    @rule(offset=st.integers(-3, 41))
    def finish_what_never_came(self, offset: int) -> None:
        self.mark.finish(offset)

    @rule()
    def advance(self) -> None:
        before, expected = self.committed, self.expected()
        moved = self.mark.advance()
        assert moved == (expected if expected != before else None)
        self.committed = expected

    def expected(self) -> int | None:
        """One behind the last record before the first that is open."""
        next_: int | None = None
        for offset in self.received:
            if offset not in self.done:
                break
            next_ = offset + 1
        return next_

    @invariant()
    def no_open_record_is_behind_it(self) -> None:
        assert self.mark.next == self.committed
        assert all(
            self.mark.next is None or self.mark.next <= one for one in self.received if one not in self.done
        )
        assert self.mark.open == len(set(self.received) - self.done)
        assert self.mark.held >= self.mark.open


TestWatermark = Model.TestCase
TestWatermark.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_a_hole_that_was_never_received_does_not_stop_it() -> None:
    mark = Watermark()
    for offset in (3, 7, 8):
        mark.receive(offset)
    mark.finish(7)
    assert mark.advance() is None
    mark.finish(3)
    assert mark.advance() == 8
    assert mark.advance() is None
    assert (mark.held, mark.open) == (1, 1)
