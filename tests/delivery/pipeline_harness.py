"""A post with fakes behind every port, and journeys on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from postroom.delivery.context import DeliveryContext, DeliveryPolicy
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.pipeline import deliver, retry_due
from postroom.letter.event import Record
from postroom.policy.outcomes import Progress
from postroom.ports.ledger import State
from tests.delivery.fakes import FakeRelay, SetClock, Shelf
from tests.delivery.letters import HOUSE, WINDOW
from tests.ledger.memory_ledger import MemoryLedger, MemoryRow, MemoryStore


@dataclass
class Bench:
    """One life of a worker on a store; `again` begins the next."""

    store: MemoryStore = field(default_factory=MemoryStore)
    relay: FakeRelay = field(default_factory=FakeRelay)
    clock: SetClock = field(default_factory=SetClock)
    shelf: Shelf = field(default_factory=Shelf)
    policy: DeliveryPolicy = HOUSE

    def __post_init__(self) -> None:
        self.ledger = MemoryLedger(self.store, WINDOW)

    async def open(self) -> DeliveryContext:
        dispatch = Dispatch(self.relay, self.ledger, self.clock, room=100)
        await dispatch.open()
        self.post = DeliveryContext(self.policy, self.ledger, self.shelf, dispatch, self.clock)
        return self.post

    async def carry(self, *records: Record) -> Progress:
        """A batch from beginning to end, as one Progress."""
        if not hasattr(self, "post"):
            await self.open()
        return total([progress async for progress in deliver(records, self.post)])

    async def recall(self) -> Progress:
        """What is due, from beginning to end."""
        recalled = await self.ledger.claim_due(self.clock.now(), 100)
        return total([progress async for progress in retry_due(recalled, self.post)])

    def again(self, **changes: Any) -> "Bench":
        """The next process on the same store and relay."""
        return replace(self, **changes)

    def row(self, name: str = "a") -> MemoryRow:
        [row] = [row for row in self.store.rows.values() if row.letter.identity.id == name]
        return row

    def state(self, name: str = "a") -> State:
        return self.row(name).state

    @property
    def buried(self) -> list[tuple[int, str]]:
        """Offsets and problem codes of the dead letters that wait."""
        return [
            (one.dead_letter.record.offset, one.dead_letter.problems[0].code.value)
            for one in self.store.outbox
        ]


def total(parts: Sequence[Progress]) -> Progress:
    """Several groups as one."""
    whole = Progress()
    for part in parts:
        whole.settled += part.settled
        whole.malformed += part.malformed
        whole.duplicates += part.duplicates
        whole.held += part.held
        whole.taken_in_doubt += part.taken_in_doubt
    return whole


def offsets(records: Sequence[Record]) -> list[int]:
    """Which records, in order."""
    return sorted(record.offset for record in records)
