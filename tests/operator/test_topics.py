import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from postroom.letter.problems import Code, Problem, Rejected
from postroom.local.broker import LocalBroker
from postroom_operator import kafka as module
from postroom_operator.kafka import TopicManager
from postroom_operator.models import RequiredTopic, TopicState

CONFIG = {"cleanup.policy": "delete", "retention.ms": "604800000"}


def wanted(partitions: int = 3, name: str = "postroom.shop.orders") -> RequiredTopic:
    return RequiredTopic(name, partitions, CONFIG)


class Asking:
    """A running TopicManager and the changes that it reports."""

    def __init__(self, connect: Callable[[], Mapping[str, Any]]) -> None:
        self._news = asyncio.Event()
        self.topics = TopicManager(connect, -1, self._moved)

    def _moved(self, owner: Hashable) -> None:
        self._news.set()

    async def ask(self, *topics: RequiredTopic, ours: frozenset[str] = frozenset()) -> tuple[TopicState, ...]:
        """The state of the topic once it is known."""
        self.topics.request("orders", topics, ours)
        await self._news.wait()
        self._news.clear()
        return self.topics.request("orders", topics, ours)


def run(connect: Callable[[], Mapping[str, Any]], test: Callable[[Asking], Awaitable[None]]) -> None:
    async def begin() -> None:
        asking = Asking(connect)
        running = asyncio.create_task(asking.topics.run())
        try:
            async with asyncio.timeout(60):
                await test(asking)
        finally:
            running.cancel()

    asyncio.run(begin())


def test_without_a_connection_the_topics_report_it_and_nothing_waits() -> None:
    def connect() -> Mapping[str, Any]:
        raise Rejected(Problem(Code.SECRET_MISSING, "the operator's Secret", "is not there"))

    async def test(asking: Asking) -> None:
        assert asking.topics.request("orders", (wanted(),), frozenset()) == (
            TopicState("postroom.shop.orders"),
        )
        (found,) = await asking.ask(wanted())
        assert (found.partitions, found.reason) == (0, "ConnectionNotConfigured")
        assert "is not there" in found.problem

    run(connect, test)


def test_an_unreachable_broker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)

    async def test(asking: Asking) -> None:
        (found,) = await asking.ask(wanted())
        assert found.reason == "BrokerUnreachable"

    run(lambda: {"bootstrap.servers": "127.0.0.1:1"}, test)


class Headless:
    """Brokers without a controller: they list topics and never answer other requests."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Connect to no broker."""

    def list_topics(self, timeout: float) -> Any:
        known = SimpleNamespace(partitions={0: None}, error=None)
        return SimpleNamespace(topics={"postroom.shop.orders": known})

    def create_topics(self, topics: list[NewTopic], **_: Any) -> dict[str, "Future[None]"]:
        return {each.topic: Future() for each in topics}

    def create_partitions(self, more: list[NewPartitions], **_: Any) -> dict[str, "Future[None]"]:
        return {each.topic: Future() for each in more}

    def describe_configs(self, resources: list[Any], **_: Any) -> dict[Any, "Future[Any]"]:
        return {each: Future() for each in resources}


def test_brokers_that_list_topics_and_do_not_answer_are_reported_and_polled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(module, "AdminClient", Headless)
    there = "postroom.shop.orders"

    async def test(asking: Asking) -> None:
        for _ in range(2):
            known, missing = await asking.ask(wanted(3), wanted(1, f"{there}.dlq"), ours=frozenset({there}))
            assert (known.partitions, known.differences) == (1, ("partitions is 1 instead of 3",))
            assert (missing.partitions, missing.reason) == (0, "CreateTimedOut")
            asking.topics.forget("orders")
            await asking.ask(wanted(3, "postroom.shop.other"))

    run(dict, test)


class Reluctant(Headless):
    """Brokers that have the topic and list it from the second time on, or never."""

    listed = 1

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.looks = 0

    def list_topics(self, timeout: float) -> Any:
        self.looks += 1
        known = SimpleNamespace(partitions={0: None, 1: None}, error=None)
        return SimpleNamespace(topics={"postroom.shop.orders": known} if self.looks > self.listed else {})

    def create_topics(self, topics: list[NewTopic], **_: Any) -> dict[str, "Future[None]"]:
        refused: Future[None] = Future()
        refused.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS)))
        return {each.topic: refused for each in topics}


@pytest.mark.parametrize(("listed", "found"), [(1, (2, "")), (99, (0, "NotListed"))])
def test_an_existing_topic_that_was_not_listed_has_its_own_partitions(
    monkeypatch: pytest.MonkeyPatch, listed: int, found: tuple[int, str]
) -> None:
    monkeypatch.setattr(module, "AdminClient", Reluctant)
    monkeypatch.setattr(Reluctant, "listed", listed)

    async def test(asking: Asking) -> None:
        (topic,) = await asking.ask(wanted(3))
        assert (topic.partitions, topic.reason) == found

    run(dict, test)


def test_topics_that_are_no_longer_requested_are_forgotten() -> None:
    def connect() -> Mapping[str, Any]:
        raise Rejected(Problem(Code.SECRET_MISSING, "the operator's Secret", "is not there"))

    async def test(asking: Asking) -> None:
        await asking.ask(wanted())
        await asking.ask(wanted(3, "postroom.shop.other"))
        (found,) = asking.topics.request("orders", (wanted(),), frozenset())
        assert found == TopicState("postroom.shop.orders")

    run(connect, test)


@pytest.mark.kafka
def test_missing_topics_are_created_and_grow_and_never_shrink() -> None:
    with LocalBroker() as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})

        async def test(asking: Asking) -> None:
            found = await asking.ask(wanted(), wanted(1, "postroom.shop.orders.dlq"))
            assert [(each.name, each.partitions, each.created) for each in found] == [
                ("postroom.shop.orders", 3, True),
                ("postroom.shop.orders.dlq", 1, True),
            ]
            (grown,) = await asking.ask(wanted(5))
            assert (grown.partitions, grown.differences) == (5, ())
            (kept,) = await asking.ask(wanted(2))
            assert kept.partitions == 5
            assert kept.differences == ("partitions is 5 instead of 2",)

        run(lambda: {"bootstrap.servers": broker.bootstrap}, test)
        assert len(admin.list_topics(timeout=10).topics["postroom.shop.orders"].partitions) == 5


@pytest.mark.kafka
def test_an_existing_topic_is_used_as_it_is_and_its_differences_are_reported() -> None:
    with LocalBroker() as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        theirs = NewTopic("postroom.shop.orders", num_partitions=1, config={"retention.ms": "1000"})
        admin.create_topics([theirs])["postroom.shop.orders"].result(10)

        async def test(asking: Asking) -> None:
            (found,) = await asking.ask(wanted())
            assert (found.partitions, found.created) == (1, False)
            assert found.differences == (
                "partitions is 1 instead of 3",
                "retention.ms is 1000 instead of 604800000",
            )

        run(lambda: {"bootstrap.servers": broker.bootstrap}, test)
        assert len(admin.list_topics(timeout=10).topics["postroom.shop.orders"].partitions) == 1


@pytest.mark.kafka
def test_a_topic_that_the_operator_created_before_a_restart_still_grows() -> None:
    with LocalBroker() as broker:
        connect = {"bootstrap.servers": broker.bootstrap}

        async def first(asking: Asking) -> None:
            await asking.ask(wanted())

        async def second(asking: Asking) -> None:
            (found,) = await asking.ask(wanted(4), ours=frozenset({"postroom.shop.orders"}))
            assert (found.partitions, found.created) == (4, True)

        run(lambda: connect, first)
        run(lambda: connect, second)
