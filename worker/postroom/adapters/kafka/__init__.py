"""Kafka, on confluent-kafka: the consumer-group membership, what waits, the producers of what goes out."""

from postroom.adapters.kafka.deadletters import KafkaDeadLetters
from postroom.adapters.kafka.events import KafkaEvents
from postroom.adapters.kafka.lag import Backlog
from postroom.adapters.kafka.notices import KafkaCourier
from postroom.adapters.kafka.settings import Membership

__all__ = ["Backlog", "KafkaCourier", "KafkaDeadLetters", "KafkaEvents", "Membership"]
