"""Events: from the bytes of a Kafka record to checked fields."""
