"""The gateway: an HTTP intake for applications that do not speak Kafka."""
