"""Where letters leave: circuits that workers share, a fallback, and rates that they divide."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from postroom.delivery.dispatch import Dispatch
from postroom.delivery.router import POSTPONED_SECONDS, SYNC_SECONDS, RelayRouter, RelayTarget
from postroom.delivery.shared_state import UNUSED_PROBE_SECONDS, RecipientRateLimiter
from postroom.policy.circuit_breaker import CircuitRules, Phase
from postroom.ports.ledger import Claimed
from postroom.ports.relay import (
    HoldReason,
    Lost,
    NotSent,
    OutboundMessage,
    Postponed,
    Rate,
    Reply,
    Result,
    Stage,
)
from tests.delivery.async_test import async_test
from tests.delivery.fakes import FakeRelay, SetClock, until
from tests.delivery.letters import NOON, TAKEN, WINDOW, letter
from tests.ledger.memory_ledger import MemoryLedger, MemoryStore

RULES = CircuitRules(failures=3, reset_after=60.0)
REFUSED = Lost(Stage.CONNECT, False, "connection refused")
BUSY = Reply(Stage.RCPT, 450, "mailbox busy")


class DeadRelay(FakeRelay):
    """A relay that is unreachable until it is `back`."""

    back: Result | None = None

    def _result(self, parcel: OutboundMessage, grant: object) -> Result:
        return self.back or REFUSED


@dataclass
class World:
    """One store, one clock, and workers on them."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: SetClock = field(default_factory=SetClock)
    number: int = 0

    def __post_init__(self) -> None:
        self.store.time = self.clock.monotonic

    async def worker(self, *, fallback: FakeRelay | None = None, rate: Rate | None = None) -> "Worker":
        ledger = MemoryLedger(self.store, WINDOW)
        relay = DeadRelay()
        spare = RelayTarget("shop/spare", fallback, RULES) if fallback else None
        ways = RelayRouter(RelayTarget("shop/orders", relay, RULES, rate), spare, ledger, self.clock)
        worker = Worker(self, ledger, relay, ways)
        await worker.dispatch.open()
        return worker


@dataclass
class Worker:
    """One worker: letters in, results by name."""

    world: World
    ledger: MemoryLedger
    relay: DeadRelay
    router: RelayRouter
    results: dict[str, Result] = field(default_factory=dict)
    via: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dispatch = Dispatch(self.router, self.ledger, self.world.clock, 64, self.router)

    def note(self, results: Sequence[tuple[OutboundMessage, Result]]) -> None:
        for parcel, result in results:
            assert isinstance(parcel, Claimed)
            self.results[parcel.letter.identity.id] = result
            self.via[parcel.letter.identity.id] = parcel.via

    async def send(self, *names: str, recipient: str | None = None) -> list[Result]:
        """Send letters with these ids and wait for what comes of them."""
        self.world.number += 1
        made = [
            letter(name, self.world.number, **({"recipient": recipient} if recipient else {}))
            for name in names
        ]
        claimed = await self.ledger.claim(made, NOON)
        self.dispatch.deliver([one for one in claimed if isinstance(one, Claimed)], self.note)
        await until(lambda: all(name in self.results for name in names))
        return [self.results[name] for name in names]

    async def fail(self, times: int = RULES.failures) -> Result:
        """Let so many attempts fail, one after the other; what the last letter heard."""
        result: Result = REFUSED
        for _ in range(times):
            self.world.clock.pass_(2)
            self.world.number += 1
            [result] = await self.send(f"failing{self.world.number}")
            assert "connection refused" in getattr(result, "reason", "")
            await self.router.sync()
        return result


@async_test
async def test_an_open_circuit_keeps_letters_back_at_once_and_other_workers_know_at_their_next_look() -> None:
    world = World()
    one, two = await world.worker(), await world.worker()
    await one.fail()
    assert one.router.own.breaker.phase is Phase.OPEN
    [kept] = await one.send("a")
    assert isinstance(kept, Postponed)
    assert (kept.hold_reason, kept.seconds) == (HoldReason.CIRCUIT, POSTPONED_SECONDS)
    assert "connection refused" in kept.reason
    await two.router.sync()
    carried = len(two.relay.got)
    assert isinstance((await two.send("b"))[0], Postponed)
    assert len(two.relay.got) == carried
    assert one.dispatch.recall_limit == two.dispatch.recall_limit == 0


@async_test
async def test_failures_of_all_workers_count_together_and_one_sign_of_life_forgets_them() -> None:
    world = World()
    one, two = await world.worker(), await world.worker()
    await one.fail(2)
    await two.router.sync()
    two.relay.back = BUSY
    assert await two.send("a") == [BUSY]
    await two.router.sync()
    await one.fail(2)
    assert one.router.own.breaker.phase is Phase.CLOSED
    two.relay.back = None
    await two.fail(1)
    assert two.router.own.breaker.phase is Phase.OPEN


@async_test
async def test_connections_that_break_together_count_once() -> None:
    world = World()
    one = await world.worker()
    assert await one.send("a", "b", "c", "d", "e") == [REFUSED] * 5
    await one.router.sync()
    assert one.router.own.breaker.circuit.failures == 1


@async_test
async def test_one_letter_of_one_worker_probes_and_a_refusal_of_it_closes_the_circuit() -> None:
    world = World()
    one, two = await world.worker(), await world.worker()
    await one.fail()
    world.clock.pass_(61)
    for worker in (one, two):
        await worker.router.sync()
    assert [worker.router.own.breaker.may_probe for worker in (one, two)] == [True, False]
    one.relay.back = BUSY
    first, second = await one.send("a", "b")
    assert first == BUSY
    assert isinstance(second, Postponed)
    assert isinstance((await two.send("c"))[0], Postponed)
    await one.router.sync()
    await two.router.sync()
    assert [worker.router.own.breaker.phase for worker in (one, two)] == [Phase.CLOSED] * 2
    two.relay.back = TAKEN
    assert await two.send("d") == [TAKEN]


@async_test
async def test_a_probe_that_fails_opens_the_circuit_again_for_as_long() -> None:
    world = World()
    one = await world.worker()
    await one.fail()
    world.clock.pass_(61)
    await one.router.sync()
    assert await one.send("a") == [REFUSED]
    await one.router.sync()
    assert one.router.own.breaker.phase is Phase.OPEN
    assert one.router.own.breaker.seconds_left == 60.0


@async_test
async def test_a_worker_that_recalls_a_letter_becomes_the_one_that_probes() -> None:
    """A worker without letters requests no probe, which would block the other workers."""
    world = World()
    one, two = await world.worker(), await world.worker()
    await two.router.sync()
    await one.fail()
    await two.router.sync()
    world.clock.pass_(61)
    await two.router.sync()
    assert not two.router.own.breaker.may_probe
    assert two.dispatch.recall_limit == 1
    assert isinstance((await two.send("a"))[0], Postponed)
    await two.router.sync()
    assert two.router.own.breaker.may_probe


@async_test
async def test_a_worker_that_has_no_letter_any_more_lets_another_probe() -> None:
    """Through a fallback letters leave at once: none waits in the ledger for who may probe."""
    world = World()
    idle, busy = await world.worker(fallback=FakeRelay()), await world.worker(fallback=FakeRelay())
    await idle.fail()
    world.clock.pass_(61)
    await idle.router.sync()
    assert idle.router.own.breaker.may_probe
    busy.relay.back = TAKEN
    for _ in range(int(UNUSED_PROBE_SECONDS) + 2):
        await busy.router.sync()
        await busy.send(f"busy{world.number}")
        world.clock.pass_(1)
        await idle.router.sync()
    assert busy.relay.got, "its letters went through the fallback, and never found out that the relay is back"
    await busy.router.sync()
    assert busy.router.own.breaker.phase is Phase.CLOSED


@async_test
async def test_a_probe_under_way_keeps_the_right_however_long_it_takes() -> None:
    world = World()
    one, two = await world.worker(), await world.worker()
    await one.fail()
    world.clock.pass_(61)
    await one.router.sync()
    one.router.own.breaker.begin_probe()
    world.clock.pass_(UNUSED_PROBE_SECONDS + 1)
    await two.router.sync()
    assert isinstance((await two.send("a"))[0], Postponed)
    await one.router.sync()
    await two.router.sync()
    assert not two.router.own.breaker.may_probe


@async_test
async def test_while_the_circuit_is_open_letters_leave_through_the_fallback_and_that_is_on_record() -> None:
    world, spare = World(), FakeRelay()
    one = await world.worker(fallback=spare)
    await one.fail()
    assert await one.send("a", "b") == [TAKEN, TAKEN]
    assert (one.via["a"], one.via["b"]) == ("shop/spare", "shop/spare")
    assert one.router.fallback is not None
    assert one.router.fallback.letters == 2
    assert one.dispatch.recall_limit is None
    world.clock.pass_(61)
    await one.router.sync()
    one.relay.back = TAKEN
    assert await one.send("c", "d") == [TAKEN, TAKEN]
    assert (one.via["c"], one.via["d"]) == ("", "shop/spare")
    await one.router.sync()
    assert await one.send("e") == [TAKEN]
    assert one.via["e"] == ""


@async_test
async def test_a_letter_that_finds_nobody_waits_for_the_fallback_and_not_for_a_retry() -> None:
    world = World()
    alone, covered = await world.worker(), await world.worker(fallback=FakeRelay())
    assert await alone.fail(1) == REFUSED
    soon = await covered.fail(1)
    assert isinstance(soon, Postponed)
    assert (soon.hold_reason, soon.seconds) == (HoldReason.CIRCUIT, SYNC_SECONDS)
    covered.relay.back = Lost(Stage.DATA, False, "connection reset")
    assert await covered.send("a") == [covered.relay.back], "a letter that breaks a dialogue is not spared"


@async_test
async def test_after_a_probe_that_was_withheld_the_next_letter_probes() -> None:
    """The probe was owned by another worker or expired, so it has no result of the relay."""
    world = World()
    one = await world.worker()
    await one.fail()
    world.clock.pass_(61)
    await one.router.sync()
    one.relay.back = NotSent(fenced=True)
    assert await one.send("a") == [one.relay.back]
    await one.router.sync()
    one.relay.back = TAKEN
    assert await one.send("b") == [TAKEN]


@async_test
async def test_a_changed_secret_lets_the_next_letter_try_a_relay_whose_circuit_is_open() -> None:
    world = World()
    one, two = await world.worker(), await world.worker()
    await one.fail()
    one.relay.back = two.relay.back = TAKEN
    one.router.retry()
    await one.router.sync()
    assert one.router.own.breaker.may_probe
    assert await one.send("a") == [TAKEN]
    await one.router.sync()
    await two.router.sync()
    assert await two.send("b") == [TAKEN]


@async_test
async def test_a_secret_that_changes_during_a_probe_is_tried_after_it() -> None:
    world = World()
    one = await world.worker()
    await one.fail()
    world.clock.pass_(61)
    await one.router.sync()
    assert one.router.own.breaker.may_probe
    one.router.retry()
    await one.router.sync()
    assert await one.send("a") == [REFUSED], "it left with the old password"
    one.relay.back = TAKEN
    for _ in range(2):
        await one.router.sync()
    assert await one.send("b") == [TAKEN]


@async_test
async def test_where_the_fallbacks_circuit_is_open_too_letters_wait_and_no_third_is_asked() -> None:
    world, spare = World(), DeadRelay()
    one = await world.worker(fallback=spare)
    await one.fail()
    for name in "abc":
        world.clock.pass_(2)
        assert await one.send(name) == [REFUSED]
        await one.router.sync()
    assert isinstance((await one.send("d"))[0], Postponed)


@async_test
async def test_workers_divide_the_rate_and_one_alone_has_it_all() -> None:
    world = World()
    one = await world.worker(rate=Rate(10))
    assert one.relay.rate == Rate(10)
    two = await world.worker(rate=Rate(10))
    assert two.relay.rate == Rate(0)
    for worker in (one, two):
        await worker.router.sync()
    assert (one.relay.rate, two.relay.rate) == (Rate(5), Rate(5))
    await two.router.leave()
    await one.router.sync()
    assert one.relay.rate == Rate(10)


@async_test
async def test_letters_that_would_wait_for_long_wait_in_the_ledger_and_not_in_memory() -> None:
    world = World()
    one = await world.worker(rate=Rate(2))
    one.relay.back = TAKEN
    names = [f"n{number}" for number in range(30)]
    results = await one.send(*names)
    assert results[:4] == [TAKEN] * 4
    late = results[4:]
    assert all(isinstance(each, Postponed) and each.hold_reason is HoldReason.RATE for each in late)
    assert one.dispatch.recall_limit == 10


@async_test
async def test_a_recipient_over_its_rate_waits_alone_whichever_worker_has_the_letter() -> None:
    world = World()
    one, two = await world.worker(), await world.worker()
    for worker in (one, two):
        worker.relay.back = TAKEN
        worker.router.recipient_limits = RecipientRateLimiter("shop/orders", Rate(3, 60.0), worker.ledger)
    assert await one.send("a", recipient="x@example.net") == [TAKEN]
    assert await one.send("b", recipient="x@example.net") == [TAKEN]
    first, second = await two.send("c", "d", recipient="X@example.net")
    assert first == TAKEN
    assert isinstance(second, Postponed)
    assert (second.hold_reason, second.seconds) == (HoldReason.RECIPIENT_RATE, 60.0)
    assert await two.send("e", recipient="y@example.net") == [TAKEN]
    assert not any(
        "example.net" in text for text in (*world.store.shared_states, *world.store.shared_states.values())
    )


def test_a_look_is_well_within_a_heartbeat() -> None:
    assert SYNC_SECONDS < 5.0
