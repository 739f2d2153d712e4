"""Topics through Kafka's admin client: created and grown, never deleted, never shrunk.

Input: the topics that profiles need. Output: `TopicState`s from memory, so that an unreachable broker delays
no template. A round on a thread of its own, periodically and soon after a new request, lists the brokers'
topics, creates missing ones and grows those that the operator created. A topic that existed before is used as
it is; where it differs from the profile, its state says so.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
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
BATCH_SECONDS = 0.2
"""New requests within this time share one round."""
ANSWER_SECONDS = 15.0
MAX_MESSAGE = 9 * 1024 * 1024
"""An event may have 8 MiB with its attachments; Kafka's default of 1 MiB would reject it."""


@dataclass(frozen=True, slots=True)
class TopicRequest:
    """The topics of one profile, and the names of those that the operator created."""

    topics: tuple[RequiredTopic, ...]
    created: frozenset[str] = frozenset()


class TopicManager:
    """Looks after the topics of all profiles; implements context.TopicService."""

    def __init__(
        self,
        connect: Callable[[], Mapping[str, Any]],
        replication: int,
        changed: Callable[[Hashable], None],
    ) -> None:
        """`connect` returns librdkafka's settings or raises Rejected; `changed` is called with each owner
        whose topics changed.
        """
        self._connect = connect
        self._replication = replication
        self._changed = changed
        self._requests: dict[Hashable, TopicRequest] = {}
        self._known: dict[str, TopicState] = {}
        self._created: set[str] = set()
        self._requests_changed = asyncio.Event()

    def request(
        self, owner: Hashable, topics: tuple[RequiredTopic, ...], created: frozenset[str]
    ) -> tuple[TopicState, ...]:
        """Register the topics that a profile needs and return what is known of them."""
        request = TopicRequest(topics, created)
        if self._requests.get(owner) != request:
            self._requests[owner] = request
            self._requests_changed.set()
        return tuple(self._known.get(topic.name, TopicState(topic.name)) for topic in request.topics)

    def forget(self, owner: Hashable) -> None:
        """Stop looking after the topics of a profile that is gone; the topics stay."""
        self._requests.pop(owner, None)

    async def run(self) -> None:
        """Run rounds until cancelled."""
        failed = False
        while True:
            interval = RETRY_SECONDS if failed else ROUND_SECONDS
            try:
                await asyncio.wait_for(self._requests_changed.wait(), interval)
                await asyncio.sleep(BATCH_SECONDS)
            except TimeoutError:
                pass
            self._requests_changed.clear()
            requests = dict(self._requests)
            found = await asyncio.to_thread(self._round, list(requests.values())) if requests else {}
            failed = any(topic.problem for topic in found.values())
            self._store_states(found, requests)

    def _store_states(
        self, found: Mapping[str, TopicState], requests: Mapping[Hashable, TopicRequest]
    ) -> None:
        changed = {name for name, topic in found.items() if self._known.get(name) != topic}
        self._known = dict(found)  # topics that are no longer requested are dropped
        self._created &= found.keys()
        for owner, request in requests.items():
            if any(topic.name in changed for topic in request.topics):
                self._changed(owner)

    def _round(self, requests: Iterable[TopicRequest]) -> dict[str, TopicState]:
        """List, create, grow and compare the topics; runs on a thread."""
        wanted = {topic.name: topic for request in requests for topic in request.topics}
        created = self._created | {name for request in requests for name in request.created}
        try:
            admin = AdminClient({**self._connect(), "log_level": 0})
            existing = _partitions(admin)
            missing = [topic for name, topic in wanted.items() if name not in existing]
            found = self._create(admin, missing)
            known = {name: topic for name, topic in wanted.items() if name in existing}
            grown = _grow(admin, [topic for name, topic in known.items() if name in created], existing)
            found |= _compare(admin, known, {**existing, **grown})
        except Rejected as rejected:
            return {
                name: _failed_topic(name, "ConnectionNotConfigured", str(rejected.problems[0]))
                for name in wanted
            }
        except KafkaException as error:
            message = f"no Kafka broker answers: {_error_text(error)}"
            return {name: _failed_topic(name, "BrokerUnreachable", message) for name in wanted}
        return {
            name: replace(topic, created=name in created or name in self._created)
            for name, topic in found.items()
        }

    def _create(self, admin: AdminClient, missing: list[RequiredTopic]) -> dict[str, TopicState]:
        if not missing:
            return {}
        topics = [
            NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=self._replication,
                config={"max.message.bytes": str(MAX_MESSAGE), **topic.config},
            )
            for topic in missing
        ]
        answers = admin.create_topics(
            topics, operation_timeout=ANSWER_SECONDS, request_timeout=ANSWER_SECONDS
        )
        states = {topic.name: self._created_topic(topic, answers[topic.name]) for topic in missing}
        return {name: state or _unlisted(admin, name) for name, state in states.items()}

    def _created_topic(self, wanted: RequiredTopic, answer: "Future[None]") -> TopicState | None:
        """The state after the request; None where the topic exists although it was not listed."""
        try:
            answer.result(ANSWER_SECONDS)
        except TimeoutError:
            message = f"the brokers did not confirm within {ANSWER_SECONDS:.0f} s that it was created"
            return _failed_topic(wanted.name, "CreateTimedOut", message)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return None
            return _failed_topic(wanted.name, "CreateRefused", f"cannot be created: {_error_text(error)}")
        self._created.add(wanted.name)
        return TopicState(wanted.name, wanted.partitions)


def _partitions(admin: AdminClient) -> dict[str, int]:
    """The number of partitions of each existing topic."""
    topics = admin.list_topics(timeout=ANSWER_SECONDS).topics
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def _unlisted(admin: AdminClient, name: str) -> TopicState:
    """The state of a topic that another client created just now, or that the operator may not list."""
    if partitions := _partitions(admin).get(name):
        return TopicState(name, partitions)
    message = "exists, and the brokers do not list it: the operator's Kafka user needs Describe on it"
    return _failed_topic(name, "NotListed", message)


def _grow(
    admin: AdminClient, created: Iterable[RequiredTopic], existing: Mapping[str, int]
) -> dict[str, int]:
    """Add partitions to topics that the operator created; returns the new number of each."""
    more = [
        NewPartitions(topic.name, topic.partitions)
        for topic in created
        if topic.partitions > existing[topic.name]
    ]
    if not more:
        return {}
    grown = {}
    answers = admin.create_partitions(more, operation_timeout=ANSWER_SECONDS, request_timeout=ANSWER_SECONDS)
    for name, answer in answers.items():
        try:
            answer.result(ANSWER_SECONDS)
        except (KafkaException, TimeoutError):
            continue  # `_compare` reports the difference
        grown[name] = next(change.new_total_count for change in more if change.topic == name)
    return grown


def _compare(
    admin: AdminClient, known: Mapping[str, RequiredTopic], existing: Mapping[str, int]
) -> dict[str, TopicState]:
    """The states of existing topics, with their differences from the required ones."""
    found = {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in known]
    answers = admin.describe_configs(resources, request_timeout=ANSWER_SECONDS) if resources else {}
    for resource, answer in answers.items():
        wanted = known[resource.name]
        differences = []
        if existing[resource.name] != wanted.partitions:
            differences.append(f"partitions is {existing[resource.name]} instead of {wanted.partitions}")
        try:
            config = answer.result(ANSWER_SECONDS)
        except (KafkaException, TimeoutError):
            config = {}  # a topic can be used without the right to describe its configuration
        for name, value in wanted.config.items():
            entry = config.get(name)
            if entry is not None and entry.value != value:
                differences.append(f"{name} is {entry.value} instead of {value}")
        found[resource.name] = TopicState(
            resource.name, existing[resource.name], differences=tuple(differences)
        )
    return found


def _failed_topic(name: str, reason: str, message: str) -> TopicState:
    return TopicState(name, problem=message, reason=reason)


def _error_text(error: KafkaException) -> str:
    return str(error.args[0].str()) if error.args else str(error)
