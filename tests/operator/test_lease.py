import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from postroom_operator import lease as module
from postroom_operator.lease import DURATION_SECONDS, MARGIN_SECONDS, Lease, LeaseFencedCluster, LeaseLost
from postroom_operator.models import Ref, Unavailable
from tests.operator.fake_cluster import FakeCluster

REF = Ref("coordination.k8s.io/v1", "Lease", "system", "postroom-operator")
CHILD = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "made"}}


@dataclass
class ManualClock:
    seconds: float = 1000.0
    reported: list[str] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    def wait_for(self, holder: str) -> None:
        self.reported.append(holder)
        self.waiting.set()

    def now(self) -> datetime:
        return datetime(2026, 1, 5, 9, 30, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.001)


def run(test: Callable[[FakeCluster, ManualClock], Awaitable[None]]) -> None:
    async def begin() -> None:
        async with asyncio.timeout(10):
            await test(FakeCluster(), ManualClock())

    asyncio.run(begin())


def test_the_first_operator_has_the_lease_at_once() -> None:
    async def test(cluster: FakeCluster, clock: ManualClock) -> None:
        lease = Lease(cluster, REF, "one", clock)
        await lease.acquire(clock.wait_for)
        assert lease.held
        assert clock.reported == []
        assert cluster.objects[REF]["spec"]["holderIdentity"] == "one"

    run(test)


def test_a_second_operator_waits_reports_the_holder_and_takes_over_when_the_holder_stops() -> None:
    async def test(cluster: FakeCluster, clock: ManualClock) -> None:
        await Lease(cluster, REF, "one", clock).acquire(clock.wait_for)
        second = Lease(cluster, REF, "two", clock)
        waiting = asyncio.create_task(second.acquire(clock.wait_for))
        await clock.waiting.wait()
        clock.seconds += DURATION_SECONDS
        await asyncio.sleep(0.01)
        assert not waiting.done(), "only silence of more than the whole duration counts"
        clock.seconds += 1
        await waiting
        assert clock.reported == ["one"]
        assert cluster.objects[REF]["spec"]["leaseTransitions"] == 1

    run(test)


def test_the_holder_stops_writing_before_another_operator_can_take_over() -> None:
    async def test(cluster: FakeCluster, clock: ManualClock) -> None:
        lease = Lease(cluster, REF, "one", clock)
        await lease.acquire(clock.wait_for)
        fenced = LeaseFencedCluster(cluster, lease)
        await fenced.apply(CHILD)
        clock.seconds += DURATION_SECONDS - MARGIN_SECONDS
        for write in (
            fenced.apply(CHILD),
            fenced.delete(REF, "uid"),
            fenced.write_status(CHILD, {}),
            fenced.annotate(REF, {}),
            fenced.scale(REF, 1),
            fenced.create(CHILD),
            fenced.replace(CHILD),
        ):
            with pytest.raises(LeaseLost):
                await write
        assert await fenced.read(REF) is not None, "reading is free"

    run(test)


def test_an_operator_that_finds_another_holder_has_lost_the_lease() -> None:
    async def test(cluster: FakeCluster, clock: ManualClock) -> None:
        lease = Lease(cluster, REF, "one", clock)
        await lease.acquire(clock.wait_for)
        taken = cluster.objects[REF]
        cluster.put({**taken, "spec": {**taken["spec"], "holderIdentity": "two"}})
        with pytest.raises(LeaseLost, match="two"):
            await lease.keep()
        assert not lease.held

    run(test)


def test_an_annotation_on_the_lease_does_not_lose_the_lease() -> None:
    async def test(cluster: FakeCluster, clock: ManualClock) -> None:
        lease = Lease(cluster, REF, "one", clock)
        await lease.acquire(clock.wait_for)
        looks = 0

        def note(verb: str, ref: Ref) -> None:
            nonlocal looks
            looks += 1
            if looks == 1:  # between its read and its write
                taken = cluster.objects[REF]
                noted = {**taken["metadata"], "annotations": {"example.org/note": "ours"}}
                cluster.put({**taken, "metadata": noted})
            if looks == 3:
                raise asyncio.CancelledError

        cluster.before = note
        with pytest.raises(asyncio.CancelledError):
            await lease.keep()
        assert lease.held

    run(test)


def test_a_holder_that_cannot_renew_in_time_loses_the_lease_and_not_before() -> None:
    async def test(cluster: FakeCluster, clock: ManualClock) -> None:
        lease = Lease(cluster, REF, "one", clock)
        await lease.acquire(clock.wait_for)
        tries = 0

        def away(verb: str, ref: Ref) -> None:
            nonlocal tries
            tries += 1
            clock.seconds += 1
            raise Unavailable("no answer")

        cluster.before = away
        with pytest.raises(LeaseLost, match="no answer"):
            await lease.keep()
        assert tries >= DURATION_SECONDS - MARGIN_SECONDS - 1

    run(test)


def test_an_operator_that_ends_in_order_releases_the_lease() -> None:
    async def test(cluster: FakeCluster, clock: ManualClock) -> None:
        first = Lease(cluster, REF, "one", clock)
        await first.acquire(clock.wait_for)
        await first.release()
        await Lease(cluster, REF, "two", clock).acquire(clock.wait_for)
        assert clock.reported == []

    run(test)


def test_two_operators_that_start_together_never_both_hold_the_lease() -> None:
    async def test(cluster: FakeCluster, clock: ManualClock) -> None:
        leases = [Lease(cluster, REF, name, clock) for name in ("one", "two", "three")]
        tasks = [asyncio.create_task(each.acquire(clock.wait_for)) for each in leases]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.02)
        assert sum(each.held for each in leases) == 1
        for task in tasks:
            task.cancel()

    run(test)
