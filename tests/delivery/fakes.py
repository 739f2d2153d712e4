"""The world behind the ports, without one: a clock that is set, a relay, a topic, templates."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from postroom.letter.catalog import RenderableTemplate, RenderedLetter, SenderMailbox, TemplateCatalog
from postroom.letter.event import Event
from postroom.policy.outcomes import Progress
from postroom.ports.kafka import Partition, RecordReceiver
from postroom.ports.relay import Fence, FenceGrant, NotSent, OutboundMessage, Rate, Report, Result
from tests.delivery.letters import KIND, NOON, TAKEN


@dataclass
class SetClock:
    """Implements ports.world.Clock; time passes when a test says so, chance is the middle."""

    time: datetime = NOON

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def random(self) -> float:
        return 0.5

    def pass_(self, seconds: float) -> datetime:
        self.time += timedelta(seconds=seconds)
        return self.time


@dataclass
class PlainTemplate:
    """A template without a template language."""

    name: str = "order"
    revision: str = "0123456789ab"
    suspended: bool = False
    category: str = "Transactional"
    lifetime: timedelta | None = None
    fails: Exception | None = None
    sender: SenderMailbox | None = None

    def expires(self, event: Event) -> datetime | None:
        return event.expires or (event.time + self.lifetime if self.lifetime else None)

    def render(self, event: Event) -> RenderedLetter:
        if self.fails:
            raise self.fails
        text = f"for {event.data['name']}"
        return RenderedLetter(
            self.name, self.revision, text, f"<p>{text}</p>", text, self.sender, None, (), (), "en"
        )


@dataclass
class Shelf:
    """Implements ports.world.Templates."""

    templates: dict[str, RenderableTemplate] = field(default_factory=lambda: {KIND: PlainTemplate()})

    def current(self) -> TemplateCatalog:
        return TemplateCatalog(self.templates)


class FakeRelay:
    """Implements ports.relay.Relay: asks the fence for what it gets, answers when and what it is reported."""

    def __init__(self, answers: Mapping[str, Result] | None = None, by_itself: bool = True) -> None:
        self.answers = dict(answers or {})
        """Results by recipient; a 250 for all others."""
        self.by_itself = by_itself
        self.got: list[OutboundMessage] = []
        self.carried: list[str] = []
        """Recipients whose content left, in order."""
        self.waiting: dict[str, tuple[OutboundMessage, Report]] = {}
        self.draining = False
        self.rate: Rate | None = None
        self._fence: Fence
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def reachable(self) -> bool | None:
        return True

    @property
    def last_error(self) -> str:
        return ""

    def limit(self, rate: Rate | None) -> None:
        self.rate = rate

    async def open(self, fence: Fence) -> None:
        self._fence = fence

    def deliver(self, parcels: Iterable[OutboundMessage], report: Report) -> None:
        batch = list(parcels)
        if self.draining:
            report([(one, NotSent(fenced=False)) for one in batch])
            return
        self.got += batch
        self.waiting |= {one.envelope.recipient: (one, report) for one in batch}
        if self.by_itself:
            task = asyncio.ensure_future(self.answer(*(one.envelope.recipient for one in batch)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def answer(self, *recipients: str) -> None:
        """Fence, carry and answer the letters to these recipients, in one group."""
        group = [self.waiting.pop(recipient) for recipient in recipients if recipient in self.waiting]
        grant: FenceGrant = await self._fence([parcel for parcel, _ in group])
        for parcel, report in group:
            report([(parcel, self._result(parcel, grant))])

    def _result(self, parcel: OutboundMessage, grant: FenceGrant) -> Result:
        if parcel not in grant.messages:
            return NotSent(fenced=True)
        self.carried.append(parcel.envelope.recipient)
        return self.answers.get(parcel.envelope.recipient, TAKEN)

    async def drain(self, grace: float) -> None:
        self.draining = True
        for parcel, report in list(self.waiting.values()):
            report([(parcel, NotSent(fenced=False))])
        self.waiting.clear()


@dataclass
class FakeEvents:
    """Implements ports.events.Events; a test calls the receiver itself."""

    paused: bool = False
    committed: dict[Partition, int] = field(default_factory=dict)
    connected: bool | None = True

    async def start(self, receiver: RecordReceiver) -> None:
        raise NotImplementedError

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        for partition, offset in offsets.items():
            assert offset >= self.committed.get(partition, 0), "a commit went back"
        self.committed |= offsets

    async def stop(self, offsets: Mapping[Partition, int]) -> None:
        self.commit(offsets)


def ignore(_: Progress) -> None:
    """For those who are not asked about progress."""


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
