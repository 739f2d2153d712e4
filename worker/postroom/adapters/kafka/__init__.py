"""Kafka, on confluent-kafka: the consumer-group membership, what waits, the producers of what goes out."""
