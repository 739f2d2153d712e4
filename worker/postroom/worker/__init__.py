"""The worker process: one profile's letters from its topic to its relay. Read `main` first."""
