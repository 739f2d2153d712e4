"""The promise as a state machine: nothing is lost, and a second copy only where a doubt is on record.

Events are published, some of them twice; a worker receives, fences, is answered or not, is killed and
begins again, in any order. A copy counts as visible when the relay has it, whether the worker heard of it
or not.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postroom.delivery.consumer import Watermark
from postroom.delivery.context import DeliveryContext
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.pipeline import deliver, retry_due
from postroom.letter.event import Record
from postroom.policy.outcomes import Progress
from postroom.ports.ledger import ExistingRow, Ledger, State
from postroom.ports.relay import Fence, Lost, NotSent, OutboundMessage, Rate, Reply, Report, Result, Stage
from tests.delivery.fakes import SetClock, Shelf
from tests.delivery.letters import HOUSE, POLICY, TAKEN, letter, record
from tests.ledger.ledger_contract import Lives
from tests.ledger.test_memory_ledger import MemoryLives
from tests.ledger.test_sqlite import FileLives

WAITING = (State.DEFERRED, State.SCHEDULED, State.IN_DOUBT)
UNSETTLED = (State.CLAIMED, State.SENDING)
PEOPLE = "abcdefgh"
ANSWERS: dict[str, Result] = {
    "250": TAKEN,
    "451": Reply(Stage.END_OF_DATA, 451, "later"),
    "550": Reply(Stage.END_OF_DATA, 550, "no"),
    "dropped, arrived": Lost(Stage.END_OF_DATA, True, "reset"),
    "dropped, not arrived": Lost(Stage.END_OF_DATA, True, "reset"),
}


@dataclass
class SteppedRelay:
    """Implements ports.relay.Relay one step at a time: a letter is fenced, then its content leaves."""

    copies: Counter[str]
    waiting: list[tuple[OutboundMessage, Report]] = field(default_factory=list)
    granted: list[tuple[OutboundMessage, Report]] = field(default_factory=list)
    reachable: bool | None = True
    fence: Any = None
    last_error: str = ""

    def limit(self, rate: Rate | None) -> None:
        pass

    async def open(self, fence: Fence) -> None:
        self.fence = fence

    def deliver(self, parcels: Iterable[OutboundMessage], report: Report) -> None:
        self.waiting += [(parcel, report) for parcel in parcels]

    async def ask(self, place: int) -> None:
        parcel, report = self.waiting.pop(place % len(self.waiting))
        grant = await self.fence([parcel])
        if parcel in grant.messages:
            self.granted.append((parcel, report))
        else:
            report([(parcel, NotSent(fenced=True))])

    def answer(self, place: int, how: str) -> None:
        parcel, report = self.granted.pop(place % len(self.granted))
        self.copies[parcel.envelope.recipient] += how in ("250", "dropped, arrived")
        report([(parcel, ANSWERS[how])])

    async def drain(self, grace: float) -> None:
        handed_back, self.waiting = self.waiting, []
        for parcel, report in handed_back:
            report([(parcel, NotSent(fenced=False))])


class Promise(RuleBasedStateMachine):
    """A topic of one partition, a worker on it, and a relay that may do anything."""

    lives: Lives
    ledger: Ledger

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.topic: list[Record] = []
        self.committed = 0
        self.copies: Counter[str] = Counter()
        self.clock = SetClock()
        self.policy = HOUSE
        self.tasks: set[asyncio.Task[None]] = set()

    def make_lives(self) -> Lives:
        return MemoryLives()

    @initialize(park=st.booleans())
    def start(self, park: bool) -> None:
        self.policy = replace(HOUSE, retry=replace(POLICY, on_in_doubt="Park" if park else "Resend"))
        self.lives = self.make_lives()
        self.runner.run(self.begin())

    async def begin(self) -> None:
        self.ledger = await self.lives.begin()
        await self.ledger.recover(self.clock.now(), self.policy.retry.on_in_doubt == "Resend")
        self.relay = SteppedRelay(self.copies)
        dispatch = Dispatch(self.relay, self.ledger, self.clock, room=8)
        await dispatch.open()
        self.post = DeliveryContext(self.policy, self.ledger, Shelf(), dispatch, self.clock)
        self.mark, self.position, self.held = Watermark(), self.committed, list[Record]()
        self.tasks = set()

    # --- what may happen ---

    @rule(
        letters=st.lists(
            st.tuples(st.sampled_from(PEOPLE), st.booleans(), st.integers(0, 5)), min_size=2, max_size=6
        )
    )
    def publish(self, letters: list[tuple[str, bool, int]]) -> None:
        """Some have a key; one in six has another payload under an id that may be known."""
        for who, keyed, kind in letters:
            data = {"name": "another letter" if kind == 5 else who}
            self.topic.append(record(who, len(self.topic), b"key" if keyed else None, data=data))

    @precondition(lambda self: self.position < len(self.topic))
    @rule(count=st.integers(1, 6))
    def receive(self, count: int) -> None:
        batch = self.topic[self.position : self.position + count]
        self.position += len(batch)
        for one in batch:
            self.mark.receive(one.offset)
        self.runner.run(self.work(self.carry(batch)))

    @precondition(lambda self: self.held)
    @rule()
    def look_again(self) -> None:
        held, self.held = self.held, []
        self.runner.run(self.work(self.carry(held)))

    @precondition(lambda self: self.relay.waiting)
    @rule(place=st.integers(0, 7), count=st.integers(1, 8))
    def fence(self, place: int, count: int) -> None:
        for _ in range(min(count, len(self.relay.waiting))):
            self.runner.run(self.work(self.relay.ask(place)))

    @precondition(lambda self: self.relay.granted)
    @rule(place=st.integers(0, 7), hows=st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=4))
    def answer(self, place: int, hows: list[str]) -> None:
        async def answer() -> None:
            for how in hows[: len(self.relay.granted)]:
                self.relay.answer(place, how)

        self.runner.run(self.work(answer()))

    @precondition(lambda self: self.relay.waiting)
    @rule()
    def lose_the_connection_before_the_dot(self) -> None:
        async def lose() -> None:
            parcel, report = self.relay.waiting.pop()
            report([(parcel, Lost(Stage.CONNECT, False, "refused"))])

        self.runner.run(self.work(lose()))

    @rule(seconds=st.sampled_from([1, 60, 700]))
    def pass_time(self, seconds: int) -> None:
        self.clock.pass_(seconds)
        self.runner.run(self.work(self.recall()))

    @precondition(lambda self: self.position)
    @rule(arrived=st.integers(0, 255))
    def die(self, arrived: int) -> None:
        """Of the letters that passed the fence, some have arrived."""
        if self.relay.waiting:
            self.fence(0, 8)
        for place, (parcel, _) in enumerate(self.relay.granted):
            self.copies[parcel.envelope.recipient] += arrived >> place & 1
        self.runner.run(self.end())
        self.runner.run(self.begin())

    @precondition(lambda self: self.relay.granted)
    @rule()
    def drain(self) -> None:
        """SIGTERM, with every reply that is still out arriving in time."""

        async def drain() -> None:
            await self.post.dispatch.drain(1)
            while self.relay.granted:
                self.relay.answer(0, "250")

        self.runner.run(self.work(drain()))
        self.runner.run(self.end(in_order=True))
        self.runner.run(self.begin())

    # --- how it happens ---

    async def carry(self, batch: list[Record]) -> None:
        async for progress in deliver(batch, self.post):
            self.take(progress)

    async def recall(self) -> None:
        recalled = await self.ledger.claim_due(self.clock.now(), 10)
        async for progress in retry_due(recalled, self.post):
            self.take(progress)

    def take(self, progress: Progress) -> None:
        for one in progress.finished():
            self.mark.finish(one.offset)
        self.held += progress.held
        self.committed = self.mark.advance() or self.committed

    async def work(self, step: Any) -> None:
        """Begin a step and let everything run that can."""
        task: asyncio.Task[None] = asyncio.ensure_future(step)
        self.tasks.add(task)
        for _ in range(4):
            await asyncio.sleep(0)
            await self.ledger.clear_suspects([])  # returns when what waits at the ledger is done
        for _ in range(12):
            await asyncio.sleep(0)
        for done in [task for task in self.tasks if task.done()]:
            self.tasks.discard(done)
            done.result()

    async def end(self, in_order: bool = False) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if in_order:
            await self.ledger.close()
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.lives.die()

    # --- what holds ---

    @invariant()
    def what_is_committed_is_safe(self) -> None:
        if hasattr(self, "ledger"):
            self.runner.run(self.check())

    async def check(self) -> None:
        for one in self.topic[: self.committed]:
            row = await self.row_of(one.offset)
            assert row is not None, f"{one.offset} is committed and not in the ledger"
            recalled = row.state in UNSETTLED
            assert not recalled or await self.has_event(row.row), f"{one.offset} would not come again"
        for who in PEOPLE:
            copies = self.copies[f"{who}@example.net"]
            assert copies <= 1 or (await self.doubts_of(who)) >= copies - 1, f"{copies} copies for {who}"

    async def row_of(self, offset: int) -> ExistingRow | None:
        """The row that a record's identity has, whatever its payload."""
        name = self.topic[offset].value
        assert name is not None
        who = next(person for person in PEOPLE if f'"{person}@'.encode() in name)
        return await self.find(who)

    async def find(self, who: str) -> ExistingRow | None:
        if not any(f'"{who}@'.encode() in (one.value or b"") for one in self.topic):
            return None
        [met] = await self.ledger.claim([letter(who)], self.clock.now())
        return met if isinstance(met, ExistingRow) else None

    async def doubts_of(self, who: str) -> int:
        met = await self.find(who)
        return met.in_doubt_count if met else 0

    async def has_event(self, row: int) -> bool:
        assert isinstance(self.lives, MemoryLives)
        return self.lives.store.rows[row].stored is not None

    def teardown(self) -> None:
        """Let a worker run on until nothing more happens: then every letter has its end."""
        if hasattr(self, "ledger"):
            for _ in range(40):
                self.run_on()
            self.runner.run(self.settled())
            self.runner.run(self.end(in_order=True))
        self.runner.close()

    def run_on(self) -> None:
        while self.position < len(self.topic):
            self.receive(4)
        if self.held:
            self.look_again()
        while self.relay.waiting or self.relay.granted:
            if self.relay.waiting:
                self.fence(0, 3)
            if self.relay.granted:
                self.answer(0, ["250"])
        self.pass_time(700)

    async def settled(self) -> None:
        assert self.committed == len(self.topic)
        for who in PEOPLE:
            met = await self.find(who)
            if met is not None:
                assert met.state not in (*UNSETTLED, State.DEFERRED, State.SCHEDULED), f"{who}: {met.state}"
                assert met.state is not State.ACCEPTED or self.copies[f"{who}@example.net"], (
                    f"{who} got nothing"
                )
        await self.check()


class PromiseOnDisk(Promise):
    """The same on the SQLite ledger."""

    def make_lives(self) -> Lives:
        self.folder = tempfile.TemporaryDirectory()
        return FileLives(Path(self.folder.name, "ledger.sqlite"))

    async def has_event(self, row: int) -> bool:
        found = self.ledger._commits.run(  # type: ignore[attr-defined]
            lambda c: c.exec_driver_sql("SELECT event IS NOT NULL FROM letter WHERE row = ?", (row,)).scalar()
        )
        return bool(await found)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestPromise = Promise.TestCase
TestPromise.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestPromiseOnDisk = PromiseOnDisk.TestCase
TestPromiseOnDisk.settings = settings(max_examples=2, stateful_step_count=15, deadline=None)
