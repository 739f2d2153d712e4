"""Kafka adapters on confluent-kafka: the group consumer, its lag, the producers and a topic reader."""
