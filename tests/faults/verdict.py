"""The verdict of a crash test: what was published, what the sink has, what the ledger says of it."""

from collections import Counter
from dataclasses import dataclass

from tests.fixtures.pipeline import WorkerUnderTest
from tests.fixtures.recording_sink import RecordingSink

SENT = ("captured", "accepted")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures that the promise is judged by."""

    published: int
    lost: int
    doubled: int
    unmarked: int
    """Letters that arrived twice although the ledger has no doubt on record: never allowed."""
    bound: int
    """Rows in `sending` over all kills: no more letters than these may arrive twice."""
    kills: int
    unsent: str = ""
    """The letters that count as lost, by their state."""
    parked: int = 0
    """Letters in doubt that wait for a person, as `onInDoubt: Park` asks."""

    def __str__(self) -> str:
        parked = f"; {self.parked} parked" if self.parked else ""
        unsent = f" ({self.unsent})" if self.unsent else ""
        return (
            f"{self.published} events, {self.kills} kills: {self.lost} lost{unsent}, {self.doubled} doubled "
            f"(bound {self.bound}), {self.unmarked} of them unmarked{parked}"
        )

    def hold(self) -> None:
        """Fail unless the promise was kept under `onInDoubt: Resend`."""
        assert self.lost == 0, str(self)
        assert self.unmarked == 0, str(self)
        assert self.doubled <= self.bound, str(self)
        assert self.parked == 0, str(self)

    def hold_under_park(self) -> None:
        """Fail unless the promise was kept under `onInDoubt: Park`: no second copy, whatever died."""
        assert self.lost == 0, str(self)
        assert self.doubled == 0, str(self)
        assert self.parked <= self.bound, str(self)


def judge(plant: WorkerUnderTest, sink: RecordingSink, published: int, killed: list[int]) -> Verdict:
    """Join the ledger with the sink; `killed` has the rows in `sending` found after each kill."""
    rows = plant.query("SELECT event_id, message_id, state, in_doubt_count FROM letter")
    arrived = {f"{message_id}": sink.copies[f"{message_id}"] for _, message_id, _, _ in rows}
    parked = sum(state == "in_doubt" for _, _, state, _ in rows)
    unsent = Counter(
        state
        for _, message_id, state, _ in rows
        if state != "in_doubt" and not (state in SENT and arrived[message_id])
    )
    doubtless = {message_id for _, message_id, _, doubts in rows if not doubts}
    doubled = [message_id for message_id, copies in arrived.items() if copies > 1]
    assert not sink.misplaced
    return Verdict(
        published=published,
        lost=published - len(rows) + unsent.total(),
        doubled=sum(arrived[message_id] - 1 for message_id in doubled),
        unmarked=sum(message_id in doubtless for message_id in doubled),
        bound=sum(killed),
        kills=len(killed),
        unsent=", ".join(f"{count} {state}" for state, count in unsent.items()),
        parked=parked,
    )
