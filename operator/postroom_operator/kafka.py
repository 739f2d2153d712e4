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
from postroom_operator.models import RequiredTopic, TopicState

ROUND_SECONDS = 60.0
RETRY_SECONDS = 10.0
GATHER_SECONDS = 0.2
"""New wants of one moment are one round."""
ANSWER_SECONDS = 15.0
MAX_MESSAGE = 9 * 1024 * 1024
"""An event may have 8 MiB (attachments ride in it); Kafka's default of 1 MiB would refuse it."""


@dataclass(frozen=True, slots=True)
class TopicRequest:
    """The topics of one profile, and which of them we made."""

    topics: tuple[RequiredTopic, ...]
    created: frozenset[str] = frozenset()


class TopicManager:
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
        self._requests: dict[Hashable, TopicRequest] = {}
        self._known: dict[str, TopicState] = {}
        self._created: set[str] = set()
        self._changed_requests = asyncio.Event()

    def request(
        self, owner: Hashable, topics: tuple[RequiredTopic, ...], ours: frozenset[str]
    ) -> tuple[TopicState, ...]:
        """Say what a profile wants, and which of it we made; what is known of it now."""
        want = TopicRequest(topics, ours)
        if self._requests.get(owner) != want:
            self._requests[owner] = want
            self._changed_requests.set()
        return tuple(self._known.get(each.name, TopicState(each.name)) for each in want.topics)

    def forget(self, owner: Hashable) -> None:
        """A profile is gone; its topics stay."""
        self._requests.pop(owner, None)

    async def run(self) -> None:
        """Look at the brokers for ever."""
        trouble = False
        while True:
            pace = RETRY_SECONDS if trouble else ROUND_SECONDS
            try:
                await asyncio.wait_for(self._changed_requests.wait(), pace)
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                pass
            self._changed_requests.clear()
            wants = dict(self._requests)
            found = await asyncio.to_thread(self._round, list(wants.values())) if wants else {}
            trouble = any(topic.problem for topic in found.values())
            self._take(found, wants)

    def _take(self, found: Mapping[str, TopicState], wants: Mapping[Hashable, TopicRequest]) -> None:
        moved = {name for name, topic in found.items() if self._known.get(name) != topic}
        self._known = dict(found)  # and nothing of topics that nobody wants any more
        self._created &= found.keys()
        for owner, want in wants.items():
            if any(each.name in moved for each in want.topics):
                self._changed(owner)

    def _round(self, wants: Iterable[TopicRequest]) -> dict[str, TopicState]:
        """One look, on a thread."""
        wanted = {each.name: each for want in wants for each in want.topics}
        ours = self._created | {name for want in wants for name in want.created}
        try:
            admin = AdminClient({**self._connect(), "log_level": 0})
            there = _partitions(admin)
            missing = [each for name, each in wanted.items() if name not in there]
            found = self._make(admin, missing)
            known = {name: each for name, each in wanted.items() if name in there}
            grown = _grow(admin, [each for name, each in known.items() if name in ours], there)
            found |= _compare(admin, known, {**there, **grown})
        except Rejected as rejected:
            return {
                name: _failed_topic(name, "ConnectionNotConfigured", str(rejected.problems[0]))
                for name in wanted
            }
        except KafkaException as error:
            message = f"no Kafka broker answers: {_error_text(error)}"
            return {name: _failed_topic(name, "BrokerUnreachable", message) for name in wanted}
        return {name: self._mark(topic, ours) for name, topic in found.items()}

    def _mark(self, topic: TopicState, ours: set[str]) -> TopicState:
        created = topic.name in ours or topic.name in self._created
        return TopicState(
            topic.name, topic.partitions, created, topic.differences, topic.problem, topic.reason
        )

    def _make(self, admin: AdminClient, missing: list[RequiredTopic]) -> dict[str, TopicState]:
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

    def _made_topic(self, wanted: RequiredTopic, answer: "Future[None]") -> TopicState | None:
        """What came of it; None where it is there although it was not listed."""
        try:
            answer.result(ANSWER_SECONDS)
        except TimeoutError:
            message = f"the brokers did not say within {ANSWER_SECONDS:.0f} s whether they made it"
            return _failed_topic(wanted.name, "CreateTimedOut", message)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return None
            return _failed_topic(wanted.name, "CreateRefused", f"could not be made: {_error_text(error)}")
        self._created.add(wanted.name)
        return TopicState(wanted.name, wanted.partitions)


def _partitions(admin: AdminClient) -> dict[str, int]:
    topics = admin.list_topics(timeout=ANSWER_SECONDS).topics
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def _unlisted(admin: AdminClient, name: str) -> TopicState:
    """Somebody else made it just now, or we may not see it."""
    if partitions := _partitions(admin).get(name):
        return TopicState(name, partitions)
    message = "is there, and the brokers do not list it: the operator's Kafka user needs Describe on it"
    return _failed_topic(name, "NotListed", message)


def _grow(admin: AdminClient, ours: Iterable[RequiredTopic], there: Mapping[str, int]) -> dict[str, int]:
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
    admin: AdminClient, known: Mapping[str, RequiredTopic], there: Mapping[str, int]
) -> dict[str, TopicState]:
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
        found[resource.name] = TopicState(resource.name, there[resource.name], differences=tuple(differs))
    return found


def _failed_topic(name: str, reason: str, message: str) -> TopicState:
    return TopicState(name, problem=message, reason=reason)


def _error_text(error: KafkaException) -> str:
    return str(error.args[0].str()) if error.args else str(error)
