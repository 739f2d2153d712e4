"""Kafka, on confluent-kafka: the consumer-group membership, and the producer of dead letters."""

from postroom.adapters.kafka.deadletters import KafkaDeadLetters
from postroom.adapters.kafka.events import KafkaEvents
from postroom.adapters.kafka.settings import Membership

__all__ = ["KafkaDeadLetters", "KafkaEvents", "Membership"]
