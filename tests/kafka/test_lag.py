"""Consumer lag on the embedded broker: known and unknown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from postroom.adapters.kafka import lag
from postroom.adapters.kafka.lag import BacklogMonitor
from postroom.connections import KafkaConnection
from postroom.local.broker import LocalBroker
from tests.kafka.test_consumer import committed, make, publish, running_reader, until

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def monitoring(broker: LocalBroker, topic: str) -> AsyncIterator[BacklogMonitor]:
    backlog = BacklogMonitor(KafkaConnection(broker.bootstrap), topic, f"{topic}.workers")
    watching = asyncio.create_task(backlog.watch())
    try:
        yield backlog
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def test_a_lag_is_unknown_without_a_broker_and_before_an_assignment(
    tmp_path: Path,
) -> None:
    async def scenario(own: LocalBroker) -> None:
        make(own, "t")
        publish(own, "t", 10)
        async with running_reader(own, "t") as reader:
            await until(lambda: reader.events.lag == 0)
            own.kill()
            await until(lambda: reader.events.connected is False)
            await until(lambda: reader.events.lag is None)
            own.start()
            await until(lambda: reader.events.lag == 0)

    with LocalBroker(tmp_path / "broker", fsync=True) as own:
        asyncio.run(scenario(own))


def test_the_lag_of_paused_partitions_is_known(broker: LocalBroker, topic: str) -> None:
    """They are paused, as during a ledger outage, so that no fetch updates their end offsets."""

    async def scenario() -> None:
        make(broker, topic, 3)
        publish(broker, topic, 20, 1)
        async with running_reader(broker, topic) as before:
            await until(lambda: len(before.seen) == 20)
        assert committed(broker, topic, 3)[1] == 20
        async with running_reader(broker, topic) as reader:
            await until(lambda: reader.events.lag == 0)
            reader.events.pause()
            await until(lambda: reader.events._paused)
            for partition in (0, 1):
                publish(broker, topic, 5, partition)
            await until(lambda: reader.events.lag == 10)
            assert reader.seen == []

    asyncio.run(scenario())


def test_the_lag_of_a_suspended_profile_counts_from_the_committed_offsets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lag, "MEASURE_SECONDS", 0.05)

    async def scenario(own: LocalBroker) -> None:
        async with monitoring(own, "t") as backlog:
            await until(lambda: backlog.records is None)
            make(own, "t", 2)
            publish(own, "t", 3, 1)
            await until(lambda: backlog.records == 3)  # its group does not exist yet
            async with running_reader(own, "t") as reader:
                await until(lambda: len(reader.seen) == 3)
            await until(lambda: backlog.records == 0)
            publish(own, "t", 4, 0)
            await until(lambda: backlog.records == 4)
            assert committed(own, "t", 2)[1] == 3
            own.kill()
            await until(lambda: backlog.records is None)
            own.start()
            await until(lambda: backlog.records == 4)

    with LocalBroker(tmp_path / "broker", fsync=True) as own:
        asyncio.run(scenario(own))
