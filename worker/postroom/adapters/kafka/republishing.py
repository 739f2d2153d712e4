"""Publishing records anew: what a person replays goes back to the topic that it came on."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from postroom.adapters.kafka.settings import producer_settings
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.ports.events import PUBLISH_PATIENCE_SECONDS


def republish(kafka: KafkaConnection, records: Sequence[Record]) -> list[str]:
    """Publish each to its topic, with key and headers; returns why not, for each: empty once it is there."""
    producer = Producer({**producer_settings(kafka), "client.id": "postroom-desk"})
    reasons = ["the brokers did not acknowledge it in time"] * len(records)
    for number, record in enumerate(records):

        def tell(error: KafkaError | None, _: object, number: int = number) -> None:
            reasons[number] = "" if error is None else error.str()

        try:
            producer.produce(
                record.topic, record.value, record.key, headers=list(record.headers), on_delivery=tell
            )
        except (BufferError, KafkaException) as error:
            reasons[number] = str(error)
    producer.flush(PUBLISH_PATIENCE_SECONDS)
    return reasons
