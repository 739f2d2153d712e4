"""The world, as the ports ask for it: Kafka, the ledger, SMTP, files, time. Facts, never verdicts."""
