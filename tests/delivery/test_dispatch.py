"""The way to the relay: order within a key, the fence, and letters that are called back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from postroom.delivery.dispatch import Dispatch
from postroom.delivery.send import ResultBuffer
from postroom.ports.ledger import Claimed, Ledger
from postroom.ports.relay import NotSent, OutboundMessage, Reply, Result, Stage
from tests.delivery.async_test import async_test
from tests.delivery.fakes import FakeRelay, SetClock, until
from tests.delivery.letters import NOON, TAKEN, WINDOW, letter
from tests.ledger.memory_ledger import MemoryLedger, MemoryStore

LATER = Reply(Stage.RCPT, 451, "4.7.1 greylisted")
HANDED_BACK = NotSent(fenced=False)


@dataclass
class Bench:
    """A dispatch between a memory ledger and a relay that answers on request."""

    relay: FakeRelay = field(default_factory=lambda: FakeRelay(by_itself=False))
    clock: SetClock = field(default_factory=SetClock)
    ledger: Ledger = field(default_factory=lambda: MemoryLedger(MemoryStore(), WINDOW))
    results: dict[str, Result] = field(default_factory=dict)

    async def open(self, room: int = 100) -> Dispatch:
        self.dispatch = Dispatch(self.relay, self.ledger, self.clock, room)
        await self.dispatch.open()
        return self.dispatch

    async def claim(self, name: str, key: bytes | None = None, **changes: Any) -> Claimed:
        one = letter(name)
        one.record = type(one.record)(
            **{f: getattr(one.record, f) for f in one.record.__slots__} | {"key": key}
        )
        for attribute, value in changes.items():
            setattr(one, attribute, value)
        [claimed] = await self.ledger.claim([one], NOON)
        assert isinstance(claimed, Claimed)
        return claimed

    def note(self, results: Sequence[tuple[OutboundMessage, Result]]) -> None:
        for parcel, result in results:
            name = parcel.envelope.recipient.partition("@")[0]
            assert name not in self.results, f"two results for {name}"
            self.results[name] = result

    @property
    def offered(self) -> str:
        """The letters that wait at the relay, as a word: they are named a, b, c."""
        return "".join(recipient[0] for recipient in self.relay.waiting)

    async def answer(self, *names: str) -> None:
        await self.relay.answer(*(f"{name}@example.net" for name in names))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@async_test
async def test_letters_of_one_key_go_one_after_the_other_and_other_keys_beside_them(bench: Bench) -> None:
    dispatch = await bench.open()
    keyed = [
        await bench.claim(name, key) for name, key in (("a", b"1"), ("b", b"1"), ("c", b"2"), ("d", b"1"))
    ]
    dispatch.deliver(keyed, bench.note)
    assert bench.offered == "ac"
    await bench.answer("a")
    assert bench.offered == "cb"
    await bench.answer("b")
    assert bench.offered == "cd"
    await bench.answer("c", "d")
    assert set(bench.results.values()) == {TAKEN}


@async_test
async def test_letters_without_a_key_are_in_no_order(bench: Bench) -> None:
    dispatch = await bench.open()
    dispatch.deliver([await bench.claim(name) for name in "abc"], bench.note)
    assert bench.offered == "abc"


@async_test
async def test_a_deferred_letter_does_not_hold_back_the_next_of_its_key(bench: Bench) -> None:
    bench.relay.answers["a@example.net"] = LATER
    dispatch = await bench.open()
    dispatch.deliver([await bench.claim(name, b"k") for name in "ab"], bench.note)
    await bench.answer("a")
    assert bench.results == {"a": LATER}
    assert bench.offered == "b"


@async_test
async def test_order_holds_over_several_deliveries_and_senders(bench: Bench) -> None:
    dispatch = await bench.open()
    dispatch.deliver([await bench.claim("a", b"k")], bench.note)
    tray = ResultBuffer()
    dispatch.deliver([await bench.claim("b", b"k")], tray.put)
    await bench.answer("a")
    await bench.answer("b")
    assert bench.results == {"a": TAKEN}
    assert [result for _, result in await tray.take()] == [TAKEN]


@async_test
async def test_the_relay_gets_no_more_than_it_has_room_for(bench: Bench) -> None:
    dispatch = await bench.open(room=2)
    dispatch.deliver([await bench.claim(name) for name in "abcd"], bench.note)
    assert bench.offered == "ab"
    await bench.answer("a")
    assert bench.offered == "bc"


@async_test
async def test_withdrawn_letters_come_back_at_once_and_the_relay_keeps_its_own(bench: Bench) -> None:
    dispatch = await bench.open(room=2)
    dispatch.deliver([await bench.claim(name, b"k" if name in "ad" else None) for name in "abcd"], bench.note)
    dispatch.withdraw(lambda one: one.letter.identity.id != "c")
    assert bench.results == {"d": HANDED_BACK}
    dispatch.withdraw(lambda _: True)
    assert bench.results == {"d": HANDED_BACK, "c": HANDED_BACK}
    await bench.answer("a", "b")
    assert bench.results == {"a": TAKEN, "b": TAKEN, "c": HANDED_BACK, "d": HANDED_BACK}


@async_test
async def test_a_lane_goes_on_after_its_head_was_withdrawn(bench: Bench) -> None:
    dispatch = await bench.open(room=1)
    dispatch.deliver([await bench.claim(name, b"k" if name in "bc" else None) for name in "abc"], bench.note)
    dispatch.withdraw(lambda one: one.letter.identity.id == "b")
    await bench.answer("a")
    assert bench.offered == "c"


@async_test
async def test_a_letter_that_is_over_at_the_fence_is_not_sent(bench: Bench) -> None:
    dispatch = await bench.open()
    fresh = await bench.claim("a", expires=NOON + timedelta(minutes=10))
    stale = await bench.claim("b", expires=NOON + timedelta(minutes=5))
    dispatch.deliver([fresh, stale], bench.note)
    bench.clock.pass_(300)
    await bench.answer("a", "b")
    assert bench.results == {"a": TAKEN, "b": NotSent(fenced=True)}
    assert bench.relay.carried == ["a@example.net"]


@async_test
async def test_a_letter_that_is_not_ours_any_more_is_not_sent(bench: Bench) -> None:
    dispatch = await bench.open()
    ours, gone = await bench.claim("a"), await bench.claim("b")
    dispatch.deliver([ours, gone], bench.note)
    await bench.ledger.release([gone])
    await bench.answer("a", "b")
    assert bench.results == {"a": TAKEN, "b": NotSent(fenced=True)}


@async_test
async def test_a_drain_hands_everything_back_that_has_not_left(bench: Bench) -> None:
    dispatch = await bench.open(room=1)
    dispatch.deliver([await bench.claim(name) for name in "abc"], bench.note)
    await dispatch.drain(1)
    assert bench.results == dict.fromkeys("abc", HANDED_BACK)


@async_test
async def test_letters_that_come_after_the_drain_are_handed_back_however_many_share_a_key(
    bench: Bench,
) -> None:
    """A relay that answers from within `deliver` must not be called from within its answer."""
    dispatch = await bench.open()
    await dispatch.drain(1)
    many = [await bench.claim(f"a{n}", b"k") for n in range(1000)]
    dispatch.deliver(many, bench.note)
    assert len(bench.results) == 1000
    assert set(bench.results.values()) == {HANDED_BACK}


@async_test
async def test_a_tray_waits_for_the_first_result_and_gives_all_that_are_there(bench: Bench) -> None:
    tray = ResultBuffer()
    one, two, three = [await bench.claim(name) for name in "abc"]
    tray.put([(one, TAKEN)])
    tray.put([(two, LATER)])
    assert await tray.take() == [(one, TAKEN), (two, LATER)]
    tray.put([(three, TAKEN)])
    assert await tray.take() == [(three, TAKEN)]
    assert not tray._filled.is_set()


@async_test
async def test_results_reach_their_tray_while_others_are_still_out(bench: Bench) -> None:
    dispatch = await bench.open()
    first, second = ResultBuffer(), ResultBuffer()
    dispatch.deliver([await bench.claim("a")], first.put)
    dispatch.deliver([await bench.claim("b")], second.put)
    await bench.answer("b")
    assert len(await second.take()) == 1
    await until(lambda: bench.offered == "a")
