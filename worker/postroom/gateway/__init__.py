"""The gateway: an HTTP API that accepts messages from applications without a Kafka client."""
