"""From events to letters through a worker: on the embedded broker, and on a real Apache Kafka."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.local.broker import LocalBroker
from tests.fixtures.pipeline import WorkerUnderTest, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink

pytestmark = pytest.mark.kafka

EVENTS = 500


@pytest.fixture
def fresh_broker() -> Iterator[str]:
    with LocalBroker() as broker:
        yield broker.bootstrap


def deliver_across_a_kill(plant: WorkerUnderTest, sink: RecordingSink) -> None:
    """Publish, kill and restart the worker: every letter arrives, and duplicates are recorded as in doubt."""
    published = publish(plant.bootstrap, events(EVENTS, seed=1))
    plant.start()
    wait_until(lambda: sink.copies.total() > EVENTS // 3, "a third of the letters")
    plant.kill()
    plant.start()
    wait_until(lambda: plant.through(published), "every letter settled")
    assert plant.end() == 0
    assert len(sink.copies) == published
    doubted = {row[0] for row in plant.query("SELECT message_id FROM letter WHERE in_doubt_count > 0")}
    assert {message_id for message_id, count in sink.copies.items() if count > 1} <= doubted


def test_the_embedded_broker_carries_every_event(
    tmp_path: Path, fresh_broker: str, recording_sink: RecordingSink
) -> None:
    deliver_across_a_kill(
        WorkerUnderTest(tmp_path, fresh_broker, recording_sink.address).prepare(), recording_sink
    )


def test_a_real_apache_kafka_carries_every_event(
    tmp_path: Path, apache_kafka: str, recording_sink: RecordingSink
) -> None:
    deliver_across_a_kill(
        WorkerUnderTest(tmp_path, apache_kafka, recording_sink.address).prepare(), recording_sink
    )
