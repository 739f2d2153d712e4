"""Topics through Kafka's admin client: made and grown, never deleted, never shrunk.

Wants in, `Topic`s out, from memory: a broker that is away holds up no template. A round on a thread of its
own, now and then and soon after a new want, looks at the brokers' topics, makes what is missing and grows
what we made. A topic that was there before us is used as it is; where it differs, that is said.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from postroom.letter.problems import Rejected
from postroom_operator.facts import Topic, WantedTopic

ROUND_SECONDS = 60.0
TROUBLE_SECONDS = 10.0
GATHER_SECONDS = 0.2
"""New wants of one moment are one round."""
ANSWER_SECONDS = 15.0
MAX_MESSAGE = 9 * 1024 * 1024
"""An event may have 8 MiB (attachments ride in it); Kafka's default of 1 MiB would refuse it."""


@dataclass(frozen=True, slots=True)
class Want:
    """The topics of one profile, and which of them we made."""

    topics: tuple[WantedTopic, ...]
    ours: frozenset[str] = frozenset()


class Topics:
    """What is known of the topics that profiles want."""

    def __init__(
        self,
        connect: Callable[[], Mapping[str, Any]],
        replication: int,
        changed: Callable[[Hashable], None],
    ) -> None:
        """`connect` gives librdkafka's settings or raises Rejected; `changed` is told whose topics moved."""
        self._connect = connect
        self._replication = replication
        self._changed = changed
        self._wants: dict[Hashable, Want] = {}
        self._known: dict[str, Topic] = {}
        self._made: set[str] = set()
        self._news = asyncio.Event()

    def want(
        self, owner: Hashable, topics: tuple[WantedTopic, ...], ours: frozenset[str]
    ) -> tuple[Topic, ...]:
        """Say what a profile wants, and which of it we made; what is known of it now."""
        want = Want(topics, ours)
        if self._wants.get(owner) != want:
            self._wants[owner] = want
            self._news.set()
        return tuple(self._known.get(each.name, Topic(each.name)) for each in want.topics)

    def forget(self, owner: Hashable) -> None:
        """A profile is gone; its topics stay."""
        self._wants.pop(owner, None)

    async def run(self) -> None:
        """Look at the brokers for ever."""
        trouble = False
        while True:
            pace = TROUBLE_SECONDS if trouble else ROUND_SECONDS
            try:
                await asyncio.wait_for(self._news.wait(), pace)
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                pass
            self._news.clear()
            wants = dict(self._wants)
            found = await asyncio.to_thread(self._round, list(wants.values())) if wants else {}
            trouble = any(topic.problem for topic in found.values())
            self._take(found, wants)

    def _take(self, found: Mapping[str, Topic], wants: Mapping[Hashable, Want]) -> None:
        moved = {name for name, topic in found.items() if self._known.get(name) != topic}
        self._known = dict(found)  # and nothing of topics that nobody wants any more
        self._made &= found.keys()
        for owner, want in wants.items():
            if any(each.name in moved for each in want.topics):
                self._changed(owner)

    def _round(self, wants: Iterable[Want]) -> dict[str, Topic]:
        """One look, on a thread."""
        wanted = {each.name: each for want in wants for each in want.topics}
        ours = self._made | {name for want in wants for name in want.ours}
        try:
            admin = AdminClient({**self._connect(), "log_level": 0})
            there = _partitions(admin)
            missing = [each for name, each in wanted.items() if name not in there]
            found = self._make(admin, missing)
            known = {name: each for name, each in wanted.items() if name in there}
            grown = _grow(admin, [each for name, each in known.items() if name in ours], there)
            found |= _compare(admin, known, {**there, **grown})
        except Rejected as rejected:
            return {name: _trouble(name, "NoConnection", str(rejected.problems[0])) for name in wanted}
        except KafkaException as error:
            message = f"no Kafka broker answers: {_words(error)}"
            return {name: _trouble(name, "BrokerUnreachable", message) for name in wanted}
        return {name: self._mark(topic, ours) for name, topic in found.items()}

    def _mark(self, topic: Topic, ours: set[str]) -> Topic:
        created = topic.name in ours or topic.name in self._made
        return Topic(topic.name, topic.partitions, created, topic.differs, topic.problem, topic.reason)

    def _make(self, admin: AdminClient, missing: list[WantedTopic]) -> dict[str, Topic]:
        if not missing:
            return {}
        topics = [
            NewTopic(
                each.name,
                num_partitions=each.partitions,
                replication_factor=self._replication,
                config={"max.message.bytes": str(MAX_MESSAGE), **each.config},
            )
            for each in missing
        ]
        answers = admin.create_topics(
            topics, operation_timeout=ANSWER_SECONDS, request_timeout=ANSWER_SECONDS
        )
        found = {each.name: self._made_topic(each, answers[each.name]) for each in missing}
        return {name: topic or _unlisted(admin, name) for name, topic in found.items()}

    def _made_topic(self, wanted: WantedTopic, answer: "Future[None]") -> Topic | None:
        """What came of it; None where it is there although it was not listed."""
        try:
            answer.result(ANSWER_SECONDS)
        except TimeoutError:
            message = f"the brokers did not say within {ANSWER_SECONDS:.0f} s whether they made it"
            return _trouble(wanted.name, "CreateUnanswered", message)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return None
            return _trouble(wanted.name, "CreateRefused", f"could not be made: {_words(error)}")
        self._made.add(wanted.name)
        return Topic(wanted.name, wanted.partitions)


def _partitions(admin: AdminClient) -> dict[str, int]:
    topics = admin.list_topics(timeout=ANSWER_SECONDS).topics
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def _unlisted(admin: AdminClient, name: str) -> Topic:
    """Somebody else made it just now, or we may not see it."""
    if partitions := _partitions(admin).get(name):
        return Topic(name, partitions)
    message = "is there, and the brokers do not list it: the operator's Kafka user needs Describe on it"
    return _trouble(name, "NotListed", message)


def _grow(admin: AdminClient, ours: Iterable[WantedTopic], there: Mapping[str, int]) -> dict[str, int]:
    more = [NewPartitions(each.name, each.partitions) for each in ours if each.partitions > there[each.name]]
    if not more:
        return {}
    grown = {}
    answers = admin.create_partitions(more, operation_timeout=ANSWER_SECONDS, request_timeout=ANSWER_SECONDS)
    for name, answer in answers.items():
        try:
            answer.result(ANSWER_SECONDS)
        except (KafkaException, TimeoutError):
            continue  # the difference is said
        grown[name] = next(each.new_total_count for each in more if each.topic == name)
    return grown


def _compare(
    admin: AdminClient, known: Mapping[str, WantedTopic], there: Mapping[str, int]
) -> dict[str, Topic]:
    """What of the topics that are there is otherwise than asked."""
    found = {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in known]
    answers = admin.describe_configs(resources, request_timeout=ANSWER_SECONDS) if resources else {}
    for resource, answer in answers.items():
        wanted = known[resource.name]
        differs = []
        if there[resource.name] != wanted.partitions:
            differs.append(f"partitions: {there[resource.name]}, asked for are {wanted.partitions}")
        try:
            config = answer.result(ANSWER_SECONDS)
        except (KafkaException, TimeoutError):
            config = {}  # it may be used without being described
        for name, value in wanted.config.items():
            entry = config.get(name)
            if entry is not None and entry.value != value:
                differs.append(f"{name}: {entry.value}, asked for is {value}")
        found[resource.name] = Topic(resource.name, there[resource.name], differs=tuple(differs))
    return found


def _trouble(name: str, reason: str, message: str) -> Topic:
    return Topic(name, problem=message, reason=reason)


def _words(error: KafkaException) -> str:
    return str(error.args[0].str()) if error.args else str(error)
