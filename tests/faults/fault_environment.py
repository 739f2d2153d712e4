"""Where a fault test happens: Apache Kafka, PostgreSQL, a relay that records, and workers between them.

Every event's id is kept, and the verdict joins those with the ledger and the relay's copies.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.faults.pod import PATIENCE_SECONDS, WorkerPod
from tests.faults.verdict import Verdict, judge
from tests.fixtures.pipeline import events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink


class Kafka(Protocol):
    """One node or several, as far as a site cares."""

    @property
    def bootstrap(self) -> str: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...


@dataclass(slots=True)
class FaultEnvironment:
    """One test's place; its topic and its database are its own."""

    kafka: Kafka
    database: str
    sink: RecordingSink
    folder: Path
    topic: str
    pods: list[WorkerPod] = field(default_factory=list)
    produced: set[str] = field(default_factory=set)
    admin: AdminClient | None = None

    def pod(self, prelude: str = "", relay: str = "", policy: str = "Resend", **spec: Any) -> WorkerPod:
        """A worker that is ready to run; the first one makes the topics."""
        name = f"plant-{len(self.pods)}"
        made = WorkerPod(
            self.folder / name,
            self.kafka.bootstrap,
            relay or self.sink.address,
            on_in_doubt=policy,
            topic=self.topic,
            spec=spec,
            prelude=prelude,
            database=self.database,
            name=name,
        )
        self.pods.append(made)
        made.prepare(topics=len(self.pods) == 1)
        return made

    def start(self, *pods: WorkerPod) -> None:
        """Start them and wait until each has its partitions."""
        for pod in pods:
            pod.run()
        for pod in pods:
            wait_until(pod.is_member, f"{pod.name}'s partitions (log: {pod.folder})", PATIENCE_SECONDS)

    def publish(self, count: int, prefix: str = "e") -> None:
        """So many events, acknowledged by Kafka."""
        publish(self.kafka.bootstrap, events(count, len(self.produced) + 1, prefix), self.topic)
        self.produced |= {f"{prefix}{number:06}" for number in range(count)}

    def publish_raw(self, values: Iterable[bytes]) -> None:
        """Records that will never be letters."""
        publish(self.kafka.bootstrap, values, self.topic)

    def copies(self, goal: int) -> None:
        """Wait until the relay has so many letters."""
        wait_until(lambda: self.sink.copies.total() >= goal, f"{goal} letters at the relay", PATIENCE_SECONDS)

    def finish(self) -> None:
        """Wait until every letter is final, then end the workers in order."""
        count, pods = len(self.produced), [pod for pod in self.pods if pod.runs()]
        wait_until(
            lambda: pods[0].through(count), f"{count} letters settled (logs: {self.folder})", PATIENCE_SECONDS
        )
        assert [pod.end() for pod in pods] == [0] * len(pods)

    def verdict(self, killed: Iterable[int] = ()) -> Verdict:
        """What became of it; every event that was produced is in the ledger, and no other."""
        ids = [event_id for (event_id,) in self.pods[0].query("SELECT event_id FROM letter")]
        assert sorted(ids) == sorted(self.produced)
        return judge(self.pods[0], self.sink, len(self.produced), list(killed))

    def offsets(self) -> dict[int, int]:
        """What the group has committed, by partition; none goes back where nothing is rewound."""
        if self.admin is None:
            self.admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})
        asked = ConsumerGroupTopicPartitions(f"{self.topic}.workers")
        [answer] = self.admin.list_consumer_group_offsets([asked]).values()
        places = answer.result(30).topic_partitions or ()
        return {place.partition: max(0, place.offset) for place in places}

    def committed(self) -> int:
        """The sum of the group's offsets: the records that need not be read again."""
        return sum(self.offsets().values())

    def dead_letters(self, count: int) -> list[Message]:
        """The first so many records on the dead-letter topic, waited for."""
        consumer_config = {"bootstrap.servers": self.kafka.bootstrap, "group.id": "readers", "log_level": 0}
        consumer = Consumer(consumer_config)
        consumer.assign([TopicPartition(f"{self.topic}.dlq", 0, 0)])
        found: list[Message] = []

        def read() -> bool:
            found.extend(one for one in consumer.consume(count, 0.2) if one.error() is None)
            return len(found) >= count

        wait_until(read, f"{count} dead letters", PATIENCE_SECONDS)
        consumer.close()
        return found


def header(message: Message, name: str) -> str:
    """A header's text."""
    headers: Any = message.headers() or ()
    return dict(headers)[name].decode() if name in dict(headers) else ""
