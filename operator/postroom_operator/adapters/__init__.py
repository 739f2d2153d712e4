"""What the operator reaches the world with: the API server, Kafka, the prover, the workers' pages."""
