"""The claim machine: workers on one ledger act in any order; Hypothesis searches for a wrong one.

They claim, fence, send, and are answered at once, late or never; they lose their leases, die and begin again;
letters are given back, recalled and replayed; time passes, midnight with it, and no two clocks agree. After
each step no letter has more copies than one and the doubts on record, and one that was accepted stays so. In
the end each letter has its end: none is lost.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postroom.ports.ledger import FINAL_STATES, Attempt, Claimed, ExistingRow, Ledger, State
from postroom.ports.relay import Stage
from tests.delivery.letters import NOON, dead_letter, ended, letter
from tests.ledger.ledger_contract import PROBLEM, carry

NAMES = "ab"
SKEW = timedelta(seconds=2)
"""How far the second worker's clock is ahead: around midnight the two workers are on different days."""
TO_MIDNIGHT = timedelta(hours=12) - SKEW / 2
ROUNDS = 12
OUTCOMES = ("answered", "answered", "lost", "refused")
IN_HAND = (State.CLAIMED, State.SENDING)


class Workers(Protocol):
    """The workers of one ledger."""

    ledgers: list[Ledger]
    remembers: bool
    """Whether a worker that loses its lease continues with its claims; otherwise it has died."""

    async def begin(self) -> None:
        """Open a ledger for each worker."""
        ...

    async def lose_lease(self, place: int) -> None:
        """The lease of a worker expires and is declared dead; or the worker dies and starts again."""
        ...

    async def wake(self, place: int) -> None:
        """A worker renews its lease, or finds that it has lost it."""
        ...

    async def attempts(self, row: int) -> Sequence[str]:
        """The recorded results of a row."""
        ...

    async def end(self) -> None:
        """Close the open ledgers."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """A letter whose content left; whether it arrived is decided, but its worker does not know."""

    claimed: Claimed
    arrived: bool


class ClaimMachine(RuleBasedStateMachine):
    """All actions of workers on a few letters; a subclass provides the workers."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = NOON
        self.known: dict[str, int] = {}
        """Letter name → row."""
        self.epochs: list[set[int]] = [set(), set()]
        """Worker → the epochs that it claimed under."""
        self.copies: Counter[str] = Counter()
        self.accepted: set[str] = set()
        self.replays = 0

    def make_workers(self) -> Workers:
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.workers = self.make_workers()
        self.runner.run(self.workers.begin())
        self.claims: list[list[Claimed]] = [[] for _ in self.workers.ledgers]
        self.sent: list[list[Sent]] = [[] for _ in self.workers.ledgers]

    # --- actions ---

    @rule(at=st.integers(0, 1), who=st.sampled_from(NAMES), replay=st.sampled_from([False, False, True]))
    def claim(self, at: int, who: str, replay: bool) -> None:
        self.replays += replay
        self.runner.run(self.claim_letter(at, who, f"replay-{self.replays}" if replay else ""))

    @rule(at=st.integers(0, 1), who=st.sampled_from(NAMES), arrived=st.sampled_from([True, True, False]))
    def claim_and_fence(self, at: int, who: str, arrived: bool) -> None:
        self.runner.run(self.claim_letter(at, who))
        self.runner.run(self.send(self.place(at), 3, arrived))

    @rule(at=st.integers(0, 1), count=st.integers(1, 3), arrived=st.sampled_from([True, True, False]))
    def fence(self, at: int, count: int, arrived: bool) -> None:
        self.runner.run(self.send(self.place(at), count, arrived))

    @precondition(lambda self: any(self.sent))
    @rule(at=st.integers(0, 1), outcome=st.sampled_from(OUTCOMES))
    def answer(self, at: int, outcome: str) -> None:
        place = self.place(at)
        if self.sent[place]:
            self.runner.run(self.settle(place, self.sent[place].pop(0), outcome))

    @rule(at=st.integers(0, 1))
    def release(self, at: int) -> None:
        place = self.place(at)
        given, self.claims[place] = self.claims[place], []
        self.runner.run(self.workers.ledgers[place].release(given))

    @rule(at=st.integers(0, 1), recover=st.booleans())
    def recall(self, at: int, recover: bool) -> None:
        self.runner.run(self.take_due(self.place(at), recover))

    @rule(at=st.integers(0, 1))
    def lose_lease(self, at: int) -> None:
        place = self.place(at)
        self.runner.run(self.workers.lose_lease(place))
        if not self.workers.remembers:
            self.claims[place], self.sent[place] = [], []

    @rule(at=st.integers(0, 1), fences=st.booleans())
    def lose_all_to_the_other(self, at: int, fences: bool) -> None:
        """The records of a worker that counts as dead come to another worker, as after a rebalance."""
        self.lose_lease(at)
        for who in self.known:
            self.runner.run(self.claim_letter(1 - at, who))
        if fences:
            self.fence(1 - at, len(NAMES), True)

    @rule(
        at=st.integers(0, 1),
        who=st.sampled_from(NAMES),
        sent=st.booleans(),
        other_sends=st.booleans(),
        hows=st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES)),
    )
    def stand_still_over_a_letter(
        self, at: int, who: str, sent: bool, other_sends: bool, hows: tuple[str, str]
    ) -> None:
        """A worker stops before or after the end of the data; another takes over, and the first continues."""
        self.runner.run(self.claim_letter(at, who))
        if sent:
            self.fence(at, len(NAMES), True)
        self.lose_all_to_the_other(at, other_sends)
        self.fence(at, len(NAMES), True)
        self.answer(at, hows[0])
        self.what_was_accepted_stays_so()
        self.answer(1 - at, hows[1])

    @rule(at=st.integers(0, 1))
    def wake(self, at: int) -> None:
        self.runner.run(self.workers.wake(self.place(at)))

    @rule(step=st.sampled_from([timedelta(minutes=1), timedelta(hours=1), TO_MIDNIGHT]))
    def pass_time(self, step: timedelta) -> None:
        self.now += step

    # --- helpers ---

    def place(self, at: int) -> int:
        return at % len(self.workers.ledgers)

    async def claim_letter(self, at: int, who: str, replay: str = "") -> None:
        place = self.place(at)
        ledger, now = self.workers.ledgers[place], self.now + SKEW * at
        [found] = await ledger.claim([letter(who, replay=replay)], now)
        if isinstance(found, ExistingRow) and found.state in IN_HAND and not self.is_mine(place, found):
            [taken] = await ledger.take_over([found], now)
            assert taken is None or not found.owner_alive, f"{who} was taken from a worker that lives"
        else:
            taken = found if isinstance(found, Claimed) else None
        if taken is not None:
            assert who not in self.accepted, f"{who} was accepted and is claimed again"
            self.known[who] = taken.row
            self.take(place, taken)

    def is_mine(self, place: int, found: ExistingRow) -> bool:
        """Whether the row is a claim of the same worker, which it leaves unchanged."""
        return found.owner_alive and found.worker_epoch in self.epochs[place]

    def take(self, place: int, one: Claimed) -> None:
        self.claims[place].append(one)
        self.epochs[place].add(one.worker_epoch)

    async def send(self, place: int, count: int, arrived: bool) -> None:
        asked, self.claims[place] = self.claims[place][:count], self.claims[place][count:]
        for one in await self.workers.ledgers[place].fence(asked, self.now):
            self.copies[one.letter.identity.id] += arrived
            self.sent[place].append(Sent(one, arrived))

    async def settle(self, place: int, sent: Sent, outcome: str) -> None:
        one = sent.claimed
        if outcome == "lost":
            doubt = Attempt("in_doubt", Stage.END_OF_DATA)
            changes: dict[str, Any] = {
                "due": self.now,
                "attempt": doubt,
                "in_doubt_count": one.in_doubt_count + 1,
            }
            done = ended(one, State.DEFERRED, **changes)
        elif sent.arrived:
            done = ended(one)
        elif outcome == "refused":
            dead = dead_letter(one.letter.record, PROBLEM)
            done = ended(one, State.FAILED, problem=PROBLEM, dead_letter=dead)
        else:
            done = ended(one, State.DEFERRED, due=self.now, replies=one.replies + 1)
        await self.workers.ledgers[place].settle([done], self.now)

    async def take_due(self, place: int, recover: bool) -> None:
        ledger = self.workers.ledgers[place]
        if recover:
            await ledger.recover(self.now, True)
        for one in await ledger.claim_due(self.now, 2):
            self.take(place, carry(one, one.identity.id))

    # --- invariants ---

    @invariant()
    def second_copies_are_doubts_on_record(self) -> None:
        for who, row in self.known.items():
            doubts = self.runner.run(self.workers.attempts(row)).count("in_doubt")
            assert self.copies[who] <= 1 + doubts, f"{self.copies[who]} copies for {who}, {doubts} doubts"

    @invariant()
    def what_was_accepted_stays_so(self) -> None:
        for who in self.known:
            if self.runner.run(self.state_of(who)) is State.ACCEPTED:
                assert self.copies[who], f"{who} got nothing"
                self.accepted.add(who)
            else:
                assert who not in self.accepted

    async def state_of(self, who: str) -> State:
        [found] = await self.workers.ledgers[0].claim([letter(who)], self.now)
        assert isinstance(found, ExistingRow), f"{who} is forgotten"
        return found.state

    def teardown(self) -> None:
        """Let the workers continue until nothing changes: then every letter is in a final state."""
        try:
            if hasattr(self, "workers"):
                self.runner.run(self.finish())
        finally:
            if hasattr(self, "workers"):
                self.runner.run(self.workers.end())
            self.runner.close()

    async def finish(self) -> None:
        places = range(len(self.workers.ledgers))
        for _ in range(ROUNDS):
            self.now += timedelta(days=1)
            for place in places:
                await self.workers.wake(place)
                await self.take_due(place, recover=True)
                for who in self.known:
                    if who not in self.accepted:
                        await self.claim_letter(place, who)
                await self.send(place, len(self.claims[place]), arrived=True)
                while self.sent[place]:
                    await self.settle(place, self.sent[place].pop(), "answered")
        for who in self.known:
            state = await self.state_of(who)
            assert state in FINAL_STATES, f"{who} is {state.value} for ever"
